package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"sort"
	"strconv"
	"sync"

	"github.com/vmware/govmomi/vim25/types"
)

// daemon is a client of the lab's daemon; its protocol is described in test/lab/hostd/protocol.ts.
type daemon struct {
	client *http.Client

	mu     sync.Mutex
	cached *labState
}

func newDaemon(socket string) *daemon {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &daemon{client: &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 16}}}
}

var generationPattern = regexp.MustCompile(`^\s*\{\s*"generation"\s*:\s*(\d+)\s*,`)

// state is the host as it is now. The same pointer comes back as long as nothing has changed.
func (d *daemon) state(ctx context.Context) (*labState, error) { return d.fetchState(ctx, "/state") }

// stateAfter waits for a change after the given generation, at most waitMs.
func (d *daemon) stateAfter(ctx context.Context, generation int64, waitMs int) (*labState, error) {
	return d.fetchState(ctx, fmt.Sprintf("/state?after=%d&waitMs=%d", generation, waitMs))
}

func (d *daemon) fetchState(ctx context.Context, path string) (*labState, error) {
	body, err := d.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	// The generation comes first in the text, which spares parsing what is known already.
	if match := generationPattern.FindSubmatch(body); match != nil && d.cached != nil {
		if generation, err := strconv.ParseInt(string(match[1]), 10, 64); err == nil && generation == d.cached.Generation {
			return d.cached, nil
		}
	}
	state := new(labState)
	if err := json.Unmarshal(body, state); err != nil {
		return nil, fmt.Errorf("state of the daemon: %w", err)
	}
	if d.cached != nil && state.Generation < d.cached.Generation {
		return d.cached, nil // an answer overtaken by a newer one
	}
	d.cached = state
	return state, nil
}

// call sends a request and decodes the answer. A fault of the host comes back as *vimFault.
func (d *daemon) call(ctx context.Context, method, path string, in, out interface{}, object types.ManagedObjectReference) error {
	body, err := d.request(ctx, method, path, in)
	if err != nil {
		return err
	}
	var refusal struct {
		Fault *labFault `json:"fault"`
	}
	if err := json.Unmarshal(body, &refusal); err == nil && refusal.Fault != nil {
		return refusal.Fault.vim(object)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("%s %s of the daemon: %w", method, path, err)
	}
	return nil
}

func (d *daemon) request(ctx context.Context, method, path string, in interface{}) ([]byte, error) {
	var payload io.Reader
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		payload = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://hostd"+path, payload)
	if err != nil {
		return nil, err
	}
	if in != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := d.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("daemon: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("daemon: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s of the daemon: %s: %.300s", method, path, response.Status, body)
	}
	return body, nil
}

// switches are fetched alone where the rest of the state does not matter.
func (d *daemon) switches(ctx context.Context) (labSwitches, error) {
	var switches labSwitches
	err := d.call(ctx, http.MethodGet, "/switches", nil, &switches, types.ManagedObjectReference{})
	return switches, err
}

type loginAnswer struct {
	Ok           bool `json:"ok"`
	Refused      bool `json:"refused"`
	Locked       bool `json:"locked"`
	NoPermission bool `json:"noPermission"`
}

func (d *daemon) login(ctx context.Context, user, password string) (loginAnswer, error) {
	var answer loginAnswer
	in := map[string]string{"user": user, "password": password}
	err := d.call(ctx, http.MethodPost, "/login", in, &answer, types.ManagedObjectReference{})
	return answer, err
}

type openAnswer struct {
	Ok        bool   `json:"ok"`
	Busy      bool   `json:"busy"`
	NotFound  bool   `json:"notFound"`
	SizeBytes int64  `json:"sizeBytes"`
	File      string `json:"file"`
}

// open asks whether a file of the host may be read, and where it lies on this machine.
func (d *daemon) open(ctx context.Context, path, kind string) (openAnswer, error) {
	var answer openAnswer
	query := url.Values{"path": {path}, "kind": {kind}}.Encode()
	err := d.call(ctx, http.MethodGet, "/open?"+query, nil, &answer, types.ManagedObjectReference{})
	return answer, err
}

// vim turns the daemon's description into the API's type of that name, field by field.
func (f *labFault) vim(object types.ManagedObjectReference) *vimFault {
	kind, ok := types.TypeFunc()(f.Type)
	if !ok {
		return &vimFault{text: f.Message, fault: &types.SystemError{Reason: f.Type + ": " + f.Message}}
	}
	value := reflect.New(kind)
	fault, ok := value.Interface().(types.BaseMethodFault)
	if !ok {
		return &vimFault{text: f.Message, fault: &types.SystemError{Reason: f.Type + " is no fault"}}
	}

	names := make([]string, 0, len(f.Fields))
	for name := range f.Fields {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		field := value.Elem().FieldByName(upperFirst(name))
		if field.IsValid() && field.Kind() == reflect.String {
			field.SetString(f.Fields[name])
		}
	}
	if notFound, ok := fault.(*types.ManagedObjectNotFound); ok {
		notFound.Obj = object
	}
	for _, message := range f.Messages {
		base := fault.GetMethodFault()
		base.FaultMessage = append(base.FaultMessage, types.LocalizableMessage{Key: message.Key, Message: message.Message})
	}
	return &vimFault{text: f.Message, fault: fault}
}
