package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func taskRef(id string) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "Task", Value: id}
}

// syncTasks shows the daemon's tasks. One that is younger than the switch taskQueuedMs is shown as
// queued whatever it is doing: clients must not take `queued` for an error, nor wait for a progress.
func (v *inventory) syncTasks(now time.Time) {
	v.tasksDueAt = time.Time{}
	present := map[types.ManagedObjectReference]bool{}
	for i := range v.state.Tasks {
		task := v.state.Tasks[i]
		if queued := v.state.Switches.TaskQueuedMs; queued > 0 {
			due := timeOfMs(task.QueuedAtMs + queued)
			if now.Before(due) {
				task.State, task.Progress, task.StartedAtMs, task.EndedAtMs, task.Result, task.Fault = "queued", nil, nil, nil, nil, nil
				if v.tasksDueAt.IsZero() || due.Before(v.tasksDueAt) {
					v.tasksDueAt = due
				}
			}
		}
		info := buildTaskInfo(&task)
		v.putTask(info)
		present[info.Task] = true
	}
	// A restarted management agent has forgotten its tasks: their references are dead.
	for ref := range v.tasks {
		if !present[ref] {
			simulator.Map.Remove(ref)
			v.changes++
		}
	}
	v.tasks = present
}

func (v *inventory) putTask(info types.TaskInfo) {
	existing, ok := simulator.Map.Get(info.Task).(*mo.Task)
	if !ok {
		object := &mo.Task{Info: info}
		object.Self = info.Task
		simulator.Map.Put(object)
		v.changes++
		return
	}
	if sameTaskInfo(existing.Info, info) {
		return
	}
	existing.Info = info
	v.changes++
	// Watchers are told by property: filters on info.state and on info both match these.
	changes := []types.PropertyChange{{Name: "info.state", Val: info.State}}
	if info.Progress != 0 {
		changes = append(changes, types.PropertyChange{Name: "info.progress", Val: info.Progress})
	}
	if info.Result != nil {
		changes = append(changes, types.PropertyChange{Name: "info.result", Val: info.Result})
	}
	if info.Error != nil {
		changes = append(changes, types.PropertyChange{Name: "info.error", Val: *info.Error})
	}
	simulator.Map.Update(existing, changes)
	existing.Info = info
}

func sameTaskInfo(a, b types.TaskInfo) bool {
	return a.State == b.State && a.Progress == b.Progress && (a.CompleteTime == nil) == (b.CompleteTime == nil)
}

// taskNames are the calls' names on the wire; clients resolve Task.info.name to a method of theirs.
var taskNames = map[string]string{
	"HostDatastoreBrowser.search":           "SearchDatastore_Task",
	"HostDatastoreBrowser.searchSubFolders": "SearchDatastoreSubFolders_Task",
	"Folder.registerVm":                     "RegisterVM_Task",
	"VirtualMachine.consolidateDisks":       "ConsolidateVMDisks_Task",
	"VirtualMachine.createSnapshot":         "CreateSnapshot_Task",
	"VirtualMachine.destroy":                "Destroy_Task",
	"VirtualMachine.powerOff":               "PowerOffVM_Task",
	"VirtualMachine.powerOn":                "PowerOnVM_Task",
	"VirtualMachine.reconfigure":            "ReconfigVM_Task",
	"VirtualMachine.removeAllSnapshots":     "RemoveAllSnapshots_Task",
	"VirtualMachine.removeSnapshot":         "RemoveSnapshot_Task",
	"VirtualMachine.reset":                  "ResetVM_Task",
	"VirtualMachine.revertToSnapshot":       "RevertToSnapshot_Task",
	"VirtualMachine.shutdownGuest":          "ShutdownGuest",
	"VirtualMachine.suspend":                "SuspendVM_Task",
}

func buildTaskInfo(task *labTask) types.TaskInfo {
	entity := types.ManagedObjectReference{Type: task.Entity.Type, Value: task.Entity.Value}
	method := task.DescriptionID[strings.LastIndexByte(task.DescriptionID, '.')+1:]
	info := types.TaskInfo{
		Key:           task.ID,
		Task:          taskRef(task.ID),
		Name:          taskNames[task.DescriptionID],
		DescriptionId: task.DescriptionID,
		Entity:        &entity,
		EntityName:    escapeName(task.Entity.Name),
		State:         types.TaskInfoState(task.State),
		Cancelable:    false,
		Reason:        &types.TaskReasonUser{UserName: "root"},
		QueueTime:     timeOfMs(task.QueuedAtMs),
		StartTime:     timePointer(task.StartedAtMs),
		CompleteTime:  timePointer(task.EndedAtMs),
	}
	if task.Progress != nil {
		info.Progress = *task.Progress
	}
	if task.State == "success" && task.Result != nil {
		switch method {
		case "createSnapshot", "createSnapshotEx":
			if vmID, err := strconv.ParseInt(task.Entity.Value, 10, 64); err == nil {
				info.Result = snapshotRef(vmID, int32(*task.Result))
			}
		}
	}
	if task.State == "error" && task.Fault != nil {
		info.Error = task.Fault.vim(entity).localized()
	}
	return info
}
