package main

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

const (
	sessionCookie = "vmware_soap_session"
	ticketCookie  = "vmware_cgi_ticket"
	// ticketLifetime: a generic service ticket is for the one request that follows.
	ticketLifetime = 2 * time.Minute
)

// session is one login. Views and filters live in the simulator under its own cookie.
type session struct {
	id              string
	user            string
	locale          string
	simulatorCookie string
	loginTime       time.Time
	lastActive      time.Time
	calls           int64
	waiting         int // long calls in progress; a session with one of them is not idle
}

func (s *session) userSession() types.UserSession {
	return types.UserSession{
		Key:              s.id,
		UserName:         s.user,
		FullName:         "Administrator",
		LoginTime:        s.loginTime,
		LastActiveTime:   s.lastActive,
		Locale:           s.locale,
		MessageLocale:    s.locale,
		ExtensionSession: types.NewBool(false),
		CallCount:        s.calls,
	}
}

type sessionTable struct {
	mu      sync.Mutex
	idle    time.Duration
	now     func() time.Time
	byID    map[string]*session
	tickets map[string]time.Time
}

func newSessionTable(idle time.Duration) *sessionTable {
	return &sessionTable{idle: idle, now: time.Now, byID: map[string]*session{}, tickets: map[string]time.Time{}}
}

// begin admits a user who has proven the password.
func (t *sessionTable) begin(user, locale, simulatorCookie string) session {
	if locale == "" {
		locale = "en"
	}
	now := t.now().UTC()
	s := &session{id: newUUID(), user: user, locale: locale, simulatorCookie: simulatorCookie, loginTime: now, lastActive: now}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byID[s.id] = s
	return *s
}

// touch returns the request's session and counts the call as activity.
func (t *sessionTable) touch(r *http.Request) (session, bool) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return session{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.byID[cookie.Value]
	if !ok {
		return session{}, false
	}
	now := t.now().UTC()
	if s.waiting == 0 && now.Sub(s.lastActive) > t.idle {
		delete(t.byID, s.id)
		return session{}, false
	}
	s.lastActive = now
	s.calls++
	return *s, true
}

// hold marks a call that waits on the host, and returns what ends it.
func (t *sessionTable) hold(id string) func() {
	add := func(n int) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if s, ok := t.byID[id]; ok {
			s.waiting += n
			s.lastActive = t.now().UTC()
		}
	}
	add(1)
	return func() { add(-1) }
}

func (t *sessionTable) end(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byID, id)
}

// endAll is a restart of the management agent: every session is gone.
func (t *sessionTable) endAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byID = map[string]*session{}
	t.tickets = map[string]time.Time{}
}

func (t *sessionTable) issueTicket() string {
	id := newUUID()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tickets[id] = t.now().Add(ticketLifetime)
	return id
}

// useTicket accepts a ticket once.
func (t *sessionTable) useTicket(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	until, ok := t.tickets[id]
	delete(t.tickets, id)
	return ok && t.now().Before(until)
}

func newUUID() string {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // no randomness: nothing sensible can be done
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
