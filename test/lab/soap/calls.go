package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// call is one SOAP request on its way.
type call struct {
	host    *host
	request *http.Request
	state   *labState
	body    []byte
	method  *simulator.Method
	session session
}

// reads are the calls that change nothing and that the simulator answers from its objects.
var reads = map[string]bool{
	"CancelWaitForUpdates": true, "CreateCollectorForEvents": true, "CreateCollectorForTasks": true,
	"CreateContainerView": true, "CreateFilter": true, "CreateListView": true, "CreatePropertyCollector": true,
	"DestroyCollector": true, "DestroyPropertyCollector": true, "DestroyPropertyFilter": true, "DestroyView": true,
	"FindAllByDnsName": true, "FindAllByIp": true, "FindAllByUuid": true, "FindByDatastorePath": true,
	"FindByDnsName": true, "FindByInventoryPath": true, "FindByIp": true, "FindByUuid": true, "FindChild": true,
	"ModifyListView": true, "QueryEvents": true, "QueryOptions": true, "ReadNextEvents": true,
	"ReadPreviousEvents": true, "ResetListView": true, "RetrieveEntityPermissions": true,
	"RetrieveRolePermissions": true, "RetrieveUserGroups": true,
}

// answers are the calls decided here, logged in.
var answers = map[string]func(*call) (interface{}, error){
	"AcquireGenericServiceTicket":    (*call).acquireTicket,
	"CancelRetrievePropertiesEx":     (*call).cancelRetrieve,
	"ContinueRetrievePropertiesEx":   (*call).continueRetrieve,
	"Fetch":                          (*call).fetch,
	"Logout":                         (*call).logout,
	"QueryChangedDiskAreas":          (*call).queryChangedDiskAreas,
	"RetrieveProperties":             (*call).retrieve,
	"RetrievePropertiesEx":           (*call).retrieveEx,
	"SearchDatastore_Task":           (*call).searchDatastore,
	"SearchDatastoreSubFolders_Task": (*call).searchSubFolders,
	"SessionIsActive":                (*call).sessionIsActive,
	"WaitForUpdates":                 (*call).waitForUpdates,
	"WaitForUpdatesEx":               (*call).waitForUpdates,
}

// writes are the calls that change the host: refused without exception by the free licence.
var writes = map[string]func(*call) (interface{}, error){
	"AnswerVM":                (*call).answerVM,
	"ConsolidateVMDisks_Task": (*call).consolidate,
	"CreateSnapshot_Task":     (*call).createSnapshot,
	"CreateSnapshotEx_Task":   (*call).createSnapshotEx,
	"Destroy_Task":            (*call).destroy,
	"PowerOffVM_Task":         (*call).powerOff,
	"PowerOnVM_Task":          (*call).powerOn,
	"ReconfigVM_Task":         (*call).reconfigure,
	"RegisterVM_Task":         (*call).register,
	"RemoveAllSnapshots_Task": (*call).removeAllSnapshots,
	"RemoveSnapshot_Task":     (*call).removeSnapshot,
	"ResetVM_Task":            (*call).resetVM,
	"RevertToSnapshot_Task":   (*call).revert,
	"ShutdownGuest":           (*call).shutdownGuest,
	"StartService":            (*call).startService,
	"SuspendVM_Task":          (*call).suspendVM,
	"UnregisterVM":            (*call).unregister,
}

func (h *host) serveSOAP(w http.ResponseWriter, c *call) {
	method, err := decodeMethod(c.body)
	if err != nil {
		writeFault(w, invalidRequest(err.Error()))
		return
	}
	c.method = method
	started := time.Now()
	outcome := "ok"
	defer func() {
		if h.verbose {
			h.logger.Printf("%s %s:%s %s %s", method.Name, method.This.Type, method.This.Value, outcome, time.Since(started).Round(time.Microsecond))
		}
	}()
	fail := func(err error) {
		fault := faultOf(err)
		outcome = fmt.Sprintf("%T", fault.fault)
		writeFault(w, fault)
	}

	switch method.Name {
	case "RetrieveServiceContent":
		// The one call that real clients send with an untyped reference: it has nothing to read a type from.
		if method.This.Value != "ServiceInstance" {
			fail(managedObjectNotFound(method.This))
			return
		}
		writeResponse(w, &types.RetrieveServiceContentResponse{Returnval: h.serviceContent()})
		return
	case "Login":
		user, err := h.login(w, c)
		if err != nil {
			fail(err)
			return
		}
		writeResponse(w, &types.LoginResponse{Returnval: user})
		return
	}

	s, ok := h.sessions.touch(c.request)
	if !ok {
		fail(notAuthenticated(method.This))
		return
	}
	c.session = s
	if method.Name == "CurrentTime" {
		writeResponse(w, &types.CurrentTimeResponse{Returnval: time.Now().UTC()})
		return
	}
	if !h.exists(c) {
		fail(managedObjectNotFound(method.This))
		return
	}

	handler, isWrite := writes[method.Name]
	if !isWrite {
		handler = answers[method.Name]
	}
	switch {
	case handler == nil && reads[method.Name]:
		answer := h.forward(c.body, s.simulatorCookie)
		if answer.Code != http.StatusOK {
			outcome = "refused by the simulator"
		}
		writeXML(w, answer.Code, answer.Body.Bytes())
		return
	case handler == nil, isWrite:
		// What is not known to be a read is taken for a write, as the licence check does.
		if c.restricted() {
			fail(restrictedVersion())
			return
		}
	}
	if handler == nil {
		fail(notSupported(method.Name))
		return
	}
	response, err := handler(c)
	if err != nil {
		fail(err)
		return
	}
	if raw, ok := response.(*rawAnswer); ok {
		writeXML(w, raw.status, raw.body)
		return
	}
	writeResponse(w, response)
}

// exists checks the object that a call is made on. Session-bound objects are the simulator's to know.
func (h *host) exists(c *call) bool {
	this := c.method.This
	if strings.HasPrefix(this.Value, "session[") {
		return true
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	return simulator.Map.Get(this) != nil
}

// restricted tells whether the licence refuses the call.
func (c *call) restricted() bool {
	if c.state.License.Edition != "free" {
		return false
	}
	if cookie, err := c.request.Cookie("vmware_client"); err == nil && cookie.Value == "VMware" {
		return !c.state.Switches.HostClientCookieBypass
	}
	return true
}

// faultOf keeps faults and turns anything else into the fault for a defect of the host.
func faultOf(err error) *vimFault {
	var fault *vimFault
	if errors.As(err, &fault) {
		return fault
	}
	return &vimFault{text: "A general system error occurred: " + err.Error(), fault: &types.SystemError{Reason: err.Error()}}
}

func (h *host) serviceContent() types.ServiceContent {
	h.mu.RLock()
	defer h.mu.RUnlock()
	ref := types.ManagedObjectReference{Type: "ServiceInstance", Value: "ServiceInstance"}
	return simulator.Map.Get(ref).(*simulator.ServiceInstance).Content
}

func (h *host) login(w http.ResponseWriter, c *call) (types.UserSession, error) {
	request := c.method.Body.(*types.Login)
	answer, err := h.daemon.login(c.request.Context(), request.UserName, request.Password)
	if err != nil {
		return types.UserSession{}, err
	}
	switch {
	case answer.NoPermission:
		return types.UserSession{}, noPermission(types.ManagedObjectReference{Type: "Folder", Value: "ha-folder-root"}, "System.View")
	case !answer.Ok: // a locked account looks like a wrong password
		return types.UserSession{}, invalidLogin()
	}
	simulatorCookie, err := h.simulatorLogin(request.UserName)
	if err != nil {
		return types.UserSession{}, err
	}
	s := h.sessions.begin(request.UserName, request.Locale, simulatorCookie)
	// Written by hand: the value stands in quotes, which Go's cookies do not allow.
	w.Header().Add("Set-Cookie", fmt.Sprintf(`%s="%s"; Path=/; HttpOnly; Secure`, sessionCookie, s.id))
	return s.userSession(), nil
}

func (c *call) logout() (interface{}, error) {
	if body, err := encodeRequest(&types.Logout{This: c.method.This}); err == nil {
		c.host.forward(body, c.session.simulatorCookie)
	}
	c.host.sessions.end(c.session.id)
	c.host.pages.drop(c.session.id)
	return &types.LogoutResponse{}, nil
}

func (c *call) sessionIsActive() (interface{}, error) {
	return nil, &vimFault{text: "The operation is not implemented.", fault: &types.NotImplemented{}}
}

func (c *call) acquireTicket() (interface{}, error) {
	return &types.AcquireGenericServiceTicketResponse{Returnval: types.SessionManagerGenericServiceTicket{
		Id:       c.host.sessions.issueTicket(),
		HostName: c.request.Host,
	}}, nil
}

// simulate lets the simulator answer a request built here, and decodes its response into a value
// of the response's type. A fault of the simulator comes back as an error.
func (c *call) simulate(request, response interface{}) error {
	body, err := encodeRequest(request)
	if err != nil {
		return err
	}
	return decodeAnswer(c.host.forward(body, c.session.simulatorCookie).Body.Bytes(), response)
}
