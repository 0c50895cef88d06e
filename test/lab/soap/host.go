package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

type options struct {
	sessionIdle time.Duration
	logger      *log.Logger
	verbose     bool
}

// host is the HTTP face of the imitated ESXi. The simulator behind it answers reads of properties,
// views and searches; logins, licence, everything that changes state, and files are decided here.
type host struct {
	options
	daemon    *daemon
	simulator http.Handler
	sessions  *sessionTable
	pages     *pageTable

	// mu guards the simulator's objects: written by a sync, read while a request is answered.
	mu        sync.RWMutex
	inventory *inventory
	// ownTasks numbers the tasks that the daemon knows nothing of.
	ownTasks int
	// forgotten is the count of the switch soapForgetSessions that was obeyed last.
	forgotten int64
}

// maxRequestBytes bounds a SOAP request; real ones stay far below.
const maxRequestBytes = 16 << 20

func newHost(d *daemon, o options) (*host, error) {
	model := simulator.ESX()
	model.Machine, model.Datastore, model.Autostart = 0, 0, false
	if err := model.Create(); err != nil {
		return nil, fmt.Errorf("simulator: %w", err)
	}
	// Objects of the captured host that the lab's own host does not have.
	for _, kind := range []string{"Network", "Datastore"} {
		for _, entity := range simulator.Map.All(kind) {
			simulator.Map.Remove(entity.Reference())
		}
	}
	model.Service.RegisterSDK(simulator.Map)
	model.Service.Listen = &url.URL{} // no user in it: the simulator takes any login, h.login has judged it

	h := &host{
		options:   o,
		daemon:    d,
		simulator: model.Service.ServeMux,
		sessions:  newSessionTable(o.sessionIdle),
		pages:     newPageTable(),
		inventory: newInventory(),
	}
	return h, nil
}

// refresh fetches the daemon's state and brings the simulator in line with it.
func (h *host) refresh(ctx context.Context) (*labState, error) {
	state, err := h.daemon.state(ctx)
	if err != nil {
		return nil, err
	}
	h.apply(state)
	return state, nil
}

func (h *host) apply(state *labState) {
	now := time.Now()
	h.mu.RLock()
	current := h.inventory.state == state && (h.inventory.tasksDueAt.IsZero() || now.Before(h.inventory.tasksDueAt))
	h.mu.RUnlock()
	if current {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if known := h.inventory.state; known != nil && state.Generation < known.Generation {
		return // overtaken by a request that asked later
	}
	h.forget(state.Switches)
	h.inventory.sync(state, now)
}

// forget ends all sessions when the switch for that has been counted up. The caller holds the lock.
func (h *host) forget(switches labSwitches) {
	if h.inventory.state != nil && h.forgotten != switches.SoapForgetSessions {
		h.sessions.endAll()
	}
	h.forgotten = switches.SoapForgetSessions
}

func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		if cause == http.ErrAbortHandler {
			panic(cause)
		}
		// The simulator panics on some paths that no real host would accept either.
		h.logger.Printf("panic: %v\n%s", cause, debug.Stack())
		writeFault(w, invalidRequest(fmt.Sprint(cause)))
	}()

	switch path := r.URL.Path; {
	case path == "/sdk" || strings.HasPrefix(path, "/sdk/"):
		h.serveSDK(w, r)
	case path == "/folder" || strings.HasPrefix(path, "/folder/"):
		h.serveFolder(w, r)
	case path == "/":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<html><head><title>VMware ESXi</title></head><body>Welcome to VMware ESXi</body></html>\n")
	default:
		http.NotFound(w, r)
	}
}

func (h *host) serveSDK(w http.ResponseWriter, r *http.Request) {
	state, err := h.refresh(r.Context())
	if err != nil {
		h.unavailable(w, err)
		return
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		if r.URL.Path == "/sdk/vimServiceVersions.xml" {
			writeXML(w, http.StatusOK, versionsXML(state.About.APIVersion))
			return
		}
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodPost {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	// Any path below /sdk takes calls: clients post to the address that they read the WSDL from.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBytes))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if delay := state.Switches.SoapDelayMs; delay > 0 {
		pause(r.Context(), time.Duration(delay)*time.Millisecond)
	}
	h.serveSOAP(w, &call{host: h, request: r, state: state, body: body})
}

// unavailable is what a host answers while its management agent restarts.
func (h *host) unavailable(w http.ResponseWriter, err error) {
	if !errors.Is(err, context.Canceled) {
		h.logger.Printf("%s", err)
	}
	http.Error(w, "503 Service Unavailable (Failed to connect to endpoint: hostd)", http.StatusServiceUnavailable)
}

// versionsXML lists the API versions, newest first, by which clients choose theirs.
func versionsXML(newest string) []byte {
	var out bytes.Buffer
	out.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<namespaces version=\"1.0\">\n <namespace>\n  <name>urn:vim25</name>\n")
	fmt.Fprintf(&out, "  <version>%s</version>\n  <priorVersions>\n", newest)
	for _, version := range []string{"8.0.2.0", "8.0.1.0", "8.0.0.0", "7.0.3.0", "7.0.0.0", "6.7.3", "6.7", "6.5", "6.0", "5.5", "5.1", "5.0", "4.1", "4.0", "2.5u2", "2.5", "2.0"} {
		if olderVersion(version, newest) {
			fmt.Fprintf(&out, "   <version>%s</version>\n", version)
		}
	}
	out.WriteString("  </priorVersions>\n </namespace>\n</namespaces>\n")
	return out.Bytes()
}

// olderVersion compares versions such as 6.5 and 7.0.3.0 by their numbers.
func olderVersion(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := 0; i < len(as) && i < len(bs); i++ {
		var x, y int
		_, _ = fmt.Sscan(strings.SplitN(as[i], "u", 2)[0], &x)
		_, _ = fmt.Sscan(strings.SplitN(bs[i], "u", 2)[0], &y)
		if x != y {
			return x < y
		}
	}
	return len(as) < len(bs)
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// forward lets the simulator answer a request under the session's own simulator session.
// The caller must not hold the lock.
func (h *host) forward(body []byte, simulatorCookie string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodPost, "/sdk", bytes.NewReader(body))
	request.RemoteAddr = "127.0.0.1:0"
	if simulatorCookie != "" {
		request.AddCookie(&http.Cookie{Name: sessionCookie, Value: simulatorCookie})
	}
	recorder := httptest.NewRecorder()
	h.mu.RLock()
	defer h.mu.RUnlock()
	h.simulator.ServeHTTP(recorder, request)
	return recorder
}

// simulatorLogin opens a session of the simulator's; it takes any name and password.
func (h *host) simulatorLogin(user string) (string, error) {
	body, err := encodeRequest(&types.Login{
		This:     types.ManagedObjectReference{Type: "SessionManager", Value: "ha-sessionmgr"},
		UserName: user, Password: "-",
	})
	if err != nil {
		return "", err
	}
	answer := h.forward(body, "")
	for _, cookie := range answer.Result().Cookies() {
		if cookie.Name == sessionCookie {
			return cookie.Value, nil
		}
	}
	return "", fmt.Errorf("simulator refused a login: %s", answer.Body)
}
