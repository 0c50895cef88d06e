package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// taskAnswer is what the daemon says to a request that became a task.
type taskAnswer struct {
	Task string `json:"task"`
}

// startTask sends a request that becomes a task, and makes sure that the task can be read.
func (c *call) startTask(method, path string, in interface{}) (types.ManagedObjectReference, error) {
	var answer taskAnswer
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	if err := c.host.daemon.call(c.request.Context(), method, path+separator+"async=1", in, &answer, c.method.This); err != nil {
		return types.ManagedObjectReference{}, err
	}
	if _, err := c.host.refresh(c.request.Context()); err != nil {
		return types.ManagedObjectReference{}, err
	}
	ref := taskRef(answer.Task)
	if !c.host.known(ref) {
		return ref, fmt.Errorf("the daemon named a task that is not in its state: %q", answer.Task)
	}
	return ref, nil
}

func (h *host) known(ref types.ManagedObjectReference) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return simulator.Map.Get(ref) != nil
}

// vmPath is the daemon's path of the machine that the call is made on.
func (c *call) vmPath(rest string) (string, error) {
	id, ok := machineID(c.method.This)
	if !ok {
		return "", managedObjectNotFound(c.method.This)
	}
	return fmt.Sprintf("/vms/%d%s", id, rest), nil
}

// snapshotPath is the daemon's path of the snapshot that the call is made on.
func (c *call) snapshotPath(rest string) (string, error) {
	vmID, id, ok := snapshotID(c.method.This)
	if !ok {
		return "", managedObjectNotFound(c.method.This)
	}
	return fmt.Sprintf("/vms/%d/snapshots/%d%s", vmID, id, rest), nil
}

func (c *call) vmTask(method, rest string, in interface{}) (types.ManagedObjectReference, error) {
	path, err := c.vmPath(rest)
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	return c.startTask(method, path, in)
}

type createSnapshotRequest struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Memory      bool   `json:"memory"`
	Quiesce     bool   `json:"quiesce"`
}

func (c *call) createSnapshot() (interface{}, error) {
	request := c.method.Body.(*types.CreateSnapshot_Task)
	task, err := c.vmTask(http.MethodPost, "/snapshots", createSnapshotRequest{
		Name: request.Name, Description: request.Description, Memory: request.Memory, Quiesce: request.Quiesce,
	})
	if err != nil {
		return nil, err
	}
	return &types.CreateSnapshot_TaskResponse{Returnval: task}, nil
}

func (c *call) createSnapshotEx() (interface{}, error) {
	request := c.method.Body.(*types.CreateSnapshotEx_Task)
	task, err := c.vmTask(http.MethodPost, "/snapshots", createSnapshotRequest{
		Name: request.Name, Description: request.Description, Memory: request.Memory, Quiesce: request.QuiesceSpec != nil,
	})
	if err != nil {
		return nil, err
	}
	return &types.CreateSnapshotEx_TaskResponse{Returnval: task}, nil
}

func (c *call) removeSnapshot() (interface{}, error) {
	request := c.method.Body.(*types.RemoveSnapshot_Task)
	children := 0
	if request.RemoveChildren {
		children = 1
	}
	path, err := c.snapshotPath(fmt.Sprintf("?children=%d", children))
	if err != nil {
		return nil, err
	}
	task, err := c.startTask(http.MethodDelete, path, nil)
	if err != nil {
		return nil, err
	}
	return &types.RemoveSnapshot_TaskResponse{Returnval: task}, nil
}

func (c *call) revert() (interface{}, error) {
	path, err := c.snapshotPath("/revert")
	if err != nil {
		return nil, err
	}
	task, err := c.startTask(http.MethodPost, path, nil)
	if err != nil {
		return nil, err
	}
	return &types.RevertToSnapshot_TaskResponse{Returnval: task}, nil
}

func (c *call) removeAllSnapshots() (interface{}, error) {
	task, err := c.vmTask(http.MethodDelete, "/snapshots", nil)
	if err != nil {
		return nil, err
	}
	return &types.RemoveAllSnapshots_TaskResponse{Returnval: task}, nil
}

func (c *call) consolidate() (interface{}, error) {
	task, err := c.vmTask(http.MethodPost, "/consolidate", nil)
	if err != nil {
		return nil, err
	}
	return &types.ConsolidateVMDisks_TaskResponse{Returnval: task}, nil
}

func (c *call) power(to string) (types.ManagedObjectReference, error) {
	return c.vmTask(http.MethodPost, "/power", map[string]string{"to": to})
}

func (c *call) powerOn() (interface{}, error) {
	task, err := c.power("on")
	if err != nil {
		return nil, err
	}
	return &types.PowerOnVM_TaskResponse{Returnval: task}, nil
}

func (c *call) powerOff() (interface{}, error) {
	task, err := c.power("off")
	if err != nil {
		return nil, err
	}
	return &types.PowerOffVM_TaskResponse{Returnval: task}, nil
}

func (c *call) resetVM() (interface{}, error) {
	task, err := c.power("reset")
	if err != nil {
		return nil, err
	}
	return &types.ResetVM_TaskResponse{Returnval: task}, nil
}

func (c *call) suspendVM() (interface{}, error) {
	task, err := c.power("suspend")
	if err != nil {
		return nil, err
	}
	return &types.SuspendVM_TaskResponse{Returnval: task}, nil
}

func (c *call) shutdownGuest() (interface{}, error) {
	if _, err := c.power("shutdown"); err != nil {
		return nil, err
	}
	return &types.ShutdownGuestResponse{}, nil
}

func (c *call) answerVM() (interface{}, error) {
	request := c.method.Body.(*types.AnswerVM)
	path, err := c.vmPath("/answer")
	if err != nil {
		return nil, err
	}
	in := map[string]string{"question": request.QuestionId, "choice": request.AnswerChoice}
	if err := c.host.daemon.call(c.request.Context(), http.MethodPost, path, in, nil, c.method.This); err != nil {
		return nil, err
	}
	return &types.AnswerVMResponse{}, nil
}

type reconfigureRequest struct {
	Vmx                   map[string]*string `json:"vmx,omitempty"`
	ChangeTrackingEnabled *bool              `json:"changeTrackingEnabled,omitempty"`
	Name                  *string            `json:"name,omitempty"`
	Annotation            *string            `json:"annotation,omitempty"`
}

func (c *call) reconfigure() (interface{}, error) {
	spec := c.method.Body.(*types.ReconfigVM_Task).Spec
	if len(spec.DeviceChange) > 0 {
		return nil, notSupported("ReconfigVM_Task with deviceChange")
	}
	in := reconfigureRequest{ChangeTrackingEnabled: spec.ChangeTrackingEnabled}
	if spec.Name != "" {
		name := unescapeName(spec.Name)
		in.Name = &name
	}
	if spec.Annotation != "" {
		in.Annotation = &spec.Annotation
	}
	for _, option := range spec.ExtraConfig {
		if in.Vmx == nil {
			in.Vmx = map[string]*string{}
		}
		value := fmt.Sprint(option.GetOptionValue().Value)
		if value == "" {
			in.Vmx[option.GetOptionValue().Key] = nil // an empty value removes the key
		} else {
			in.Vmx[option.GetOptionValue().Key] = &value
		}
	}
	task, err := c.vmTask(http.MethodPost, "/reconfigure", in)
	if err != nil {
		return nil, err
	}
	return &types.ReconfigVM_TaskResponse{Returnval: task}, nil
}

// register asks the daemon, which answers at once, and shows the answer as the task that a host makes of it.
func (c *call) register() (interface{}, error) {
	request := c.method.Body.(*types.RegisterVM_Task)
	if c.method.This != vmFolderRef {
		return nil, notSupported("RegisterVM_Task on " + c.method.This.Value)
	}
	if request.AsTemplate {
		return nil, notSupported("RegisterVM_Task with asTemplate")
	}
	in := map[string]string{"path": request.Path}
	if request.Name != "" {
		in["name"] = unescapeName(request.Name)
	}
	queued := time.Now().UnixMilli()
	var answer struct {
		ID int64 `json:"id"`
	}
	callErr := c.host.daemon.call(c.request.Context(), http.MethodPost, "/register", in, &answer, c.method.This)
	ended := time.Now().UnixMilli()
	if _, err := c.host.refresh(c.request.Context()); err != nil {
		return nil, err
	}
	task := c.host.newTask(&labTask{
		DescriptionID: "Folder.registerVm",
		Entity:        labEntity{Type: vmFolderRef.Type, Value: vmFolderRef.Value, Name: "vm"},
		State:         "success", QueuedAtMs: queued, StartedAtMs: &queued, EndedAtMs: &ended,
	}, machineRef(answer.ID), callErr)
	return &types.RegisterVM_TaskResponse{Returnval: task}, nil
}

// newTask shows a task that only this front knows.
func (h *host) newTask(task *labTask, result types.AnyType, cause error) types.ManagedObjectReference {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ownTasks++
	task.ID = fmt.Sprintf("haTask-%s-vim.%s-%d", task.Entity.Value, task.DescriptionID, 900000000+h.ownTasks)
	info := buildTaskInfo(task)
	info.Result = result
	if cause != nil {
		info.State, info.Result, info.Error = types.TaskInfoStateError, nil, faultOf(cause).localized()
	}
	h.inventory.putTask(info)
	return info.Task
}

func (c *call) unregister() (interface{}, error) {
	path, err := c.vmPath("")
	if err != nil {
		return nil, err
	}
	if err := c.host.daemon.call(c.request.Context(), http.MethodDelete, path, nil, nil, c.method.This); err != nil {
		return nil, err
	}
	return &types.UnregisterVMResponse{}, nil
}

func (c *call) destroy() (interface{}, error) {
	task, err := c.vmTask(http.MethodDelete, "?files=1", nil)
	if err != nil {
		return nil, err
	}
	return &types.Destroy_TaskResponse{Returnval: task}, nil
}

func (c *call) startService() (interface{}, error) {
	request := c.method.Body.(*types.StartService)
	for _, service := range c.state.Services {
		if service.Key == request.Id {
			if service.Key != "TSM-SSH" {
				return nil, notSupported("StartService of " + service.Key)
			}
			in := map[string]string{"ssh": "on"}
			if err := c.host.daemon.call(c.request.Context(), http.MethodPut, "/switches", in, nil, c.method.This); err != nil {
				return nil, err
			}
			return &types.StartServiceResponse{}, nil
		}
	}
	return nil, &vimFault{text: "The object or item referred to could not be found.", fault: &types.NotFound{}}
}

type changedAreasRequest struct {
	Snapshot    *int32 `json:"snapshot"`
	DeviceKey   int32  `json:"deviceKey"`
	StartOffset int64  `json:"startOffset"`
	ChangeID    string `json:"changeId"`
}

type changedAreas struct {
	StartOffset int64 `json:"startOffset"`
	Length      int64 `json:"length"`
	Areas       []struct {
		Start  int64 `json:"start"`
		Length int64 `json:"length"`
	} `json:"areas"`
}

// queryChangedDiskAreas is decided by the daemon, the licence included.
func (c *call) queryChangedDiskAreas() (interface{}, error) {
	request := c.method.Body.(*types.QueryChangedDiskAreas)
	in := changedAreasRequest{DeviceKey: request.DeviceKey, StartOffset: request.StartOffset, ChangeID: request.ChangeId}
	if request.Snapshot != nil {
		vmID, id, ok := snapshotID(*request.Snapshot)
		if !ok || machineRef(vmID) != c.method.This {
			return nil, invalidArgument("snapshot")
		}
		in.Snapshot = &id
	}
	path, err := c.vmPath("/changed-areas")
	if err != nil {
		return nil, err
	}
	var answer changedAreas
	object := c.method.This
	if request.Snapshot != nil {
		object = *request.Snapshot
	}
	if err := c.host.daemon.call(c.request.Context(), http.MethodPost, path, in, &answer, object); err != nil {
		return nil, err
	}
	info := types.DiskChangeInfo{StartOffset: answer.StartOffset, Length: answer.Length}
	for _, area := range answer.Areas {
		info.ChangedArea = append(info.ChangedArea, types.DiskChangeExtent{Start: area.Start, Length: area.Length})
	}
	return &types.QueryChangedDiskAreasResponse{Returnval: info}, nil
}
