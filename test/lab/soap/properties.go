package main

import (
	"bytes"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// pageTable holds the rest of results that were handed out in part, per session.
type pageTable struct {
	mu   sync.Mutex
	next int
	rest map[string]pageRest // by token
}

type pageRest struct {
	session string
	size    int
	objects []types.ObjectContent
}

func newPageTable() *pageTable { return &pageTable{rest: map[string]pageRest{}} }

// page cuts a result to size; the rest is kept under the token in the answer.
func (t *pageTable) page(session string, size int, objects []types.ObjectContent) *types.RetrieveResult {
	if len(objects) == 0 {
		return nil
	}
	if size <= 0 || len(objects) <= size {
		return &types.RetrieveResult{Objects: objects}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	token := strconv.Itoa(t.next)
	t.next++
	t.rest[token] = pageRest{session: session, size: size, objects: objects[size:]}
	return &types.RetrieveResult{Token: token, Objects: objects[:size]}
}

func (t *pageTable) take(session, token string) (pageRest, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rest, ok := t.rest[token]
	if !ok || rest.session != session {
		return pageRest{}, false
	}
	delete(t.rest, token)
	return rest, true
}

func (t *pageTable) drop(session string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for token, rest := range t.rest {
		if rest.session == session {
			delete(t.rest, token)
		}
	}
}

// rawAnswer is an answer of the simulator that goes out as it is.
type rawAnswer struct {
	status int
	body   []byte
}

func (c *call) retrieve() (interface{}, error) {
	answer := c.host.forward(c.body, c.session.simulatorCookie)
	return &rawAnswer{answer.Code, answer.Body.Bytes()}, nil
}

func (c *call) retrieveEx() (interface{}, error) {
	request := c.method.Body.(*types.RetrievePropertiesEx)
	size := int(request.Options.MaxObjects)
	if limit := c.state.Switches.SoapPageSizeMax; limit != nil && (size <= 0 || int(*limit) < size) {
		size = int(*limit)
	}
	answer := c.host.forward(c.body, c.session.simulatorCookie)
	body := answer.Body.Bytes()
	if answer.Code != http.StatusOK || size <= 0 || bytes.Count(body, objectsElement) <= size {
		return &rawAnswer{answer.Code, bytes.Replace(body, emptyReturnval, nil, 1)}, nil
	}

	response := new(types.RetrievePropertiesExResponse)
	if err := decodeAnswer(body, response); err != nil {
		return nil, err
	}
	response.Returnval = c.host.pages.page(c.session.id, size, response.Returnval.Objects)
	return response, nil
}

var (
	objectsElement = []byte("<objects>")
	// emptyReturnval is the simulator's answer when nothing matched; a host leaves the element out.
	emptyReturnval = []byte("<returnval></returnval>")
)

func (c *call) continueRetrieve() (interface{}, error) {
	request := c.method.Body.(*types.ContinueRetrievePropertiesEx)
	rest, ok := c.host.pages.take(c.session.id, request.Token)
	if !ok {
		return nil, invalidArgument("token")
	}
	return &types.ContinueRetrievePropertiesExResponse{
		Returnval: *c.host.pages.page(c.session.id, rest.size, rest.objects),
	}, nil
}

func (c *call) cancelRetrieve() (interface{}, error) {
	request := c.method.Body.(*types.CancelRetrievePropertiesEx)
	if _, ok := c.host.pages.take(c.session.id, request.Token); !ok {
		return nil, invalidArgument("token")
	}
	return &types.CancelRetrievePropertiesExResponse{}, nil
}

// FetchResponse answers the undocumented call by which pyVmomi reads one property.
type FetchResponse struct {
	Returnval types.AnyType `xml:"returnval,omitempty,typeattr"`
}

// fetch reads one property. The simulator's own version fails on a property that is unset.
func (c *call) fetch() (interface{}, error) {
	property := reflect.ValueOf(c.method.Body).Elem().FieldByName("Prop").String()
	this := c.method.This
	response := new(types.RetrievePropertiesExResponse)
	err := c.simulate(&types.RetrievePropertiesEx{
		This: types.ManagedObjectReference{Type: "PropertyCollector", Value: "ha-property-collector"},
		SpecSet: []types.PropertyFilterSpec{{
			PropSet:   []types.PropertySpec{{Type: this.Type, PathSet: []string{property}}},
			ObjectSet: []types.ObjectSpec{{Obj: this}},
		}},
	}, response)
	if err != nil {
		return nil, err
	}
	answer := new(FetchResponse)
	if response.Returnval == nil || len(response.Returnval.Objects) == 0 {
		return answer, nil
	}
	object := response.Returnval.Objects[0]
	if len(object.PropSet) > 0 {
		answer.Returnval = object.PropSet[0].Val
	} else if len(object.MissingSet) > 0 {
		missing := object.MissingSet[0].Fault
		return nil, &vimFault{text: missing.LocalizedMessage, fault: missing.Fault}
	}
	return answer, nil
}

// updatePollMs is how often a waiting call looks for changes at the daemon.
const updatePollMs = 200

// waitForUpdates waits outside of the lock, and asks the simulator only when there may be news: its own
// way of waiting would keep the inventory from being brought up to date.
func (c *call) waitForUpdates() (interface{}, error) {
	request, ex := c.method.Body.(*types.WaitForUpdatesEx)
	if !ex {
		plain := c.method.Body.(*types.WaitForUpdates)
		request = &types.WaitForUpdatesEx{This: plain.This, Version: plain.Version}
	}
	var deadline time.Time
	if request.Options != nil && request.Options.MaxWaitSeconds != nil {
		deadline = time.Now().Add(time.Duration(*request.Options.MaxWaitSeconds) * time.Second)
	}
	release := c.host.sessions.hold(c.session.id)
	defer release()

	once := *request
	once.Options = &types.WaitOptions{MaxWaitSeconds: types.NewInt32(0)}
	seen, first := uint64(0), true
	for {
		changes := c.host.changes()
		if first || changes != seen {
			seen, first = changes, false
			response := new(types.WaitForUpdatesExResponse)
			if err := c.simulate(&once, response); err != nil {
				return nil, err
			}
			if response.Returnval != nil && len(response.Returnval.FilterSet) > 0 || request.Version == "" {
				return updateResponse(response.Returnval, ex), nil
			}
		}
		if !deadline.IsZero() && !time.Now().Before(deadline) {
			return updateResponse(nil, ex), nil
		}
		pause(c.request.Context(), updatePollMs*time.Millisecond)
		if err := c.request.Context().Err(); err != nil {
			return nil, err
		}
		if _, err := c.host.refresh(c.request.Context()); err != nil {
			return nil, err
		}
	}
}

func updateResponse(set *types.UpdateSet, ex bool) interface{} {
	if ex {
		return &types.WaitForUpdatesExResponse{Returnval: set}
	}
	if set == nil {
		set = &types.UpdateSet{}
	}
	return &types.WaitForUpdatesResponse{Returnval: *set}
}

func (h *host) changes() uint64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.inventory.changes
}
