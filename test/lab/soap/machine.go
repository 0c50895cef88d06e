package main

import (
	"fmt"
	"path"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator/esx"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

var (
	hostRef            = types.ManagedObjectReference{Type: "HostSystem", Value: "ha-host"}
	computeRef         = types.ManagedObjectReference{Type: "ComputeResource", Value: "ha-compute-res"}
	poolRef            = types.ManagedObjectReference{Type: "ResourcePool", Value: "ha-root-pool"}
	datacenterRef      = types.ManagedObjectReference{Type: "Datacenter", Value: "ha-datacenter"}
	vmFolderRef        = types.ManagedObjectReference{Type: "Folder", Value: "ha-folder-vm"}
	datastoreFolderRef = types.ManagedObjectReference{Type: "Folder", Value: "ha-folder-datastore"}
	networkFolderRef   = types.ManagedObjectReference{Type: "Folder", Value: "ha-folder-network"}
	serviceSystemRef   = types.ManagedObjectReference{Type: "HostServiceSystem", Value: "serviceSystem"}
)

func machineRef(id int64) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "VirtualMachine", Value: strconv.FormatInt(id, 10)}
}

// machineID reads a vmid back from its reference.
func machineID(ref types.ManagedObjectReference) (int64, bool) {
	if ref.Type != "VirtualMachine" {
		return 0, false
	}
	id, err := strconv.ParseInt(ref.Value, 10, 64)
	return id, err == nil
}

func snapshotRef(vmID int64, id int32) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: fmt.Sprintf("%d-snapshot-%d", vmID, id)}
}

// snapshotID reads vmid and snapshot id back from a reference.
func snapshotID(ref types.ManagedObjectReference) (vmID int64, id int32, ok bool) {
	left, right, found := strings.Cut(ref.Value, "-snapshot-")
	if ref.Type != "VirtualMachineSnapshot" || !found {
		return 0, 0, false
	}
	vmID, vmErr := strconv.ParseInt(left, 10, 64)
	number, idErr := strconv.ParseInt(right, 10, 32)
	return vmID, int32(number), vmErr == nil && idErr == nil
}

func datastoreRef(d *labDatastore) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "Datastore", Value: d.UUID}
}

func networkRef(name string) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "Network", Value: "HaNetwork-" + name}
}

// escapeName writes a name as managed entities show it: '%', '/' and '\' as escapes.
func escapeName(name string) string {
	return strings.NewReplacer("%", "%25", "/", "%2f", `\`, "%5c").Replace(name)
}

// unescapeName reads a name of a request, in which the same escapes may stand; a lone '%' is itself.
func unescapeName(name string) string {
	return strings.NewReplacer("%25", "%", "%2f", "/", "%2F", "/", "%5c", `\`, "%5C", `\`).Replace(name)
}

// buildMachine is a virtual machine as the property collector shows it.
func buildMachine(state *labState, vm *labMachine) *mo.VirtualMachine {
	m := new(mo.VirtualMachine)
	m.Self = machineRef(vm.ID)
	m.Parent = &vmFolderRef
	m.Name = escapeName(vm.Name)
	m.ResourcePool = &poolRef
	m.Summary.OverallStatus = types.ManagedEntityStatusGreen
	m.GuestHeartbeatStatus = types.ManagedEntityStatusGray
	m.Runtime = buildRuntime(vm)
	m.Capability = buildCapability(vm)
	if d := state.datastore(vm.Datastore); d != nil {
		m.Datastore = []types.ManagedObjectReference{datastoreRef(d)}
	}
	m.Summary.Vm = &m.Self
	m.Summary.Runtime = m.Runtime
	m.Summary.Config = types.VirtualMachineConfigSummary{Name: m.Name, VmPathName: vm.VmxPath}
	if !vm.Valid {
		m.Summary.OverallStatus = types.ManagedEntityStatusGray
		return m // an invalid machine has neither config nor layout
	}

	config := buildConfig(state, vm, vm.Config, vm.Disks)
	m.Config = &config
	m.Guest = buildGuest(vm)
	m.LayoutEx = buildLayout(vm)
	m.Datastore = datastoresOf(state, vm)
	m.Storage = buildStorage(state, vm)
	m.Summary.Config = buildConfigSummary(vm, m.Name)
	m.Summary.Guest = &types.VirtualMachineGuestSummary{
		GuestId:             m.Guest.GuestId,
		GuestFullName:       m.Guest.GuestFullName,
		ToolsStatus:         m.Guest.ToolsStatus,
		ToolsVersionStatus:  m.Guest.ToolsVersionStatus,
		ToolsVersionStatus2: m.Guest.ToolsVersionStatus2,
		ToolsRunningStatus:  m.Guest.ToolsRunningStatus,
	}
	m.Summary.Storage = summarizeStorage(m.Storage)
	for _, nic := range vm.Nics {
		ref := networkRef(nic.NetworkName)
		if !containsRef(m.Network, ref) {
			m.Network = append(m.Network, ref)
		}
	}
	if s := vm.Snapshots; s != nil && len(s.Roots) > 0 {
		info := &types.VirtualMachineSnapshotInfo{RootSnapshotList: buildSnapshotTree(vm.ID, s.Roots)}
		if s.CurrentID != nil {
			current := snapshotRef(vm.ID, *s.CurrentID)
			info.CurrentSnapshot = &current
		}
		m.Snapshot = info
		for _, root := range s.Roots {
			m.RootSnapshot = append(m.RootSnapshot, snapshotRef(vm.ID, root.ID))
		}
	}
	return m
}

func containsRef(refs []types.ManagedObjectReference, ref types.ManagedObjectReference) bool {
	for _, r := range refs {
		if r == ref {
			return true
		}
	}
	return false
}

func buildRuntime(vm *labMachine) types.VirtualMachineRuntimeInfo {
	runtime := types.VirtualMachineRuntimeInfo{
		Host:                &hostRef,
		ConnectionState:     types.VirtualMachineConnectionStateConnected,
		PowerState:          types.VirtualMachinePowerState(vm.PowerState),
		FaultToleranceState: types.VirtualMachineFaultToleranceStateNotConfigured,
		BootTime:            timePointer(vm.BootTimeMs),
		MaxCpuUsage:         2000 * vm.Cpus,
		MaxMemoryUsage:      vm.MemoryMib,
		RecordReplayState:   types.VirtualMachineRecordReplayStateInactive,
		OnlineStandby:       types.NewBool(false),
		ConsolidationNeeded: types.NewBool(vm.ConsolidationNeeded),
	}
	if !vm.Valid {
		runtime.ConnectionState = types.VirtualMachineConnectionStateInvalid
	}
	if q := vm.Question; q != nil {
		question := &types.VirtualMachineQuestionInfo{
			Id:      q.ID,
			Text:    q.MessageID + ":" + q.Text,
			Message: []types.VirtualMachineMessage{{Id: q.MessageID, Text: q.Text}},
		}
		for _, choice := range q.Choices {
			question.Choice.ChoiceInfo = append(question.Choice.ChoiceInfo, &types.ElementDescription{
				Description: types.Description{Label: choice.Label, Summary: choice.Summary},
				Key:         choice.Key,
			})
		}
		question.Choice.DefaultIndex = q.DefaultIndex
		runtime.Question = question
	}
	return runtime
}

func buildCapability(vm *labMachine) types.VirtualMachineCapability {
	return types.VirtualMachineCapability{
		SnapshotOperationsSupported:  true,
		MultipleSnapshotsSupported:   true,
		SnapshotConfigSupported:      true,
		PoweredOffSnapshotsSupported: true,
		MemorySnapshotsSupported:     true,
		RevertToSnapshotSupported:    true,
		QuiescedSnapshotsSupported:   vm.Tools.RunningStatus == "guestToolsRunning",
		BootOptionsSupported:         true,
		DiskSharesSupported:          true,
		ChangeTrackingSupported:      types.NewBool(vm.ChangeTrackingSupported),
		SeSparseDiskSupported:        types.NewBool(true),
		SecureBootSupported:          types.NewBool(vm.Firmware == "efi"),
	}
}

func buildConfig(state *labState, vm *labMachine, vmx map[string]string, disks []labDisk) types.VirtualMachineConfigInfo {
	folder := path.Dir(vm.VmxPath)
	config := types.VirtualMachineConfigInfo{
		ChangeVersion:         timeOfMs(state.BootTimeMs).Format(time.RFC3339Nano),
		Modified:              time.Unix(0, 0).UTC(), // as hosts report it
		Name:                  escapeName(vm.Name),
		GuestFullName:         vm.GuestFullName,
		GuestId:               vm.GuestID,
		AlternateGuestName:    "",
		Version:               vm.HardwareVersion,
		Uuid:                  textOf(vm.BiosUUID),
		InstanceUuid:          textOf(vm.InstanceUUID),
		Annotation:            vm.Annotation,
		Firmware:              vm.Firmware,
		SwapPlacement:         "inherit",
		ChangeTrackingEnabled: types.NewBool(vm.ChangeTrackingEnabled),
		Files: types.VirtualMachineFileInfo{
			VmPathName:        vm.VmxPath,
			SnapshotDirectory: folder + "/",
			SuspendDirectory:  folder + "/",
			LogDirectory:      folder + "/",
		},
		Flags: types.VirtualMachineFlagInfo{
			EnableLogging:   types.NewBool(true),
			DiskUuidEnabled: types.NewBool(strings.EqualFold(lookupKey(vmx, "disk.EnableUUID"), "TRUE")),
		},
		Hardware: types.VirtualHardware{
			NumCPU:            vm.Cpus,
			NumCoresPerSocket: 1,
			MemoryMB:          vm.MemoryMib,
			Device:            buildDevices(state, vm, disks),
		},
		ExtraConfig: buildExtraConfig(vmx),
	}
	for _, d := range state.Datastores {
		config.DatastoreUrl = append(config.DatastoreUrl, types.VirtualMachineConfigInfoDatastoreUrlPair{Name: d.Name, Url: strings.TrimSuffix(d.URL, "/")})
	}
	return config
}

// lookupKey reads a .vmx key, which is not case-sensitive.
func lookupKey(vmx map[string]string, key string) string {
	for k, v := range vmx {
		if strings.EqualFold(k, key) {
			return v
		}
	}
	return ""
}

// shownElsewhere are the beginnings of .vmx keys that have a place of their own in the configuration.
var shownElsewhere = []string{
	"scsi", "sata", "ide", "nvme", "ethernet", "uuid.", "displayname", "guestos", "annotation", "memsize",
	"numvcpus", "config.version", "virtualhw.version", "firmware", ".encoding", "floppy",
}

func buildExtraConfig(vmx map[string]string) []types.BaseOptionValue {
	keys := make([]string, 0, len(vmx))
	for key := range vmx {
		lower, own := strings.ToLower(key), false
		for _, beginning := range shownElsewhere {
			own = own || strings.HasPrefix(lower, beginning)
		}
		if !own || strings.HasSuffix(lower, ".ctkenabled") {
			keys = append(keys, key)
		}
	}
	sort.Strings(keys)
	options := make([]types.BaseOptionValue, 0, len(keys))
	for _, key := range keys {
		options = append(options, &types.OptionValue{Key: key, Value: vmx[key]})
	}
	return options
}

func buildDevices(state *labState, vm *labMachine, disks []labDisk) []types.BaseVirtualDevice {
	var devices []types.BaseVirtualDevice
	taken := map[int32]bool{}
	for _, controller := range vm.Controllers {
		devices = append(devices, buildController(controller, disks))
		taken[controller.Key] = true
	}
	// The devices that every machine has: PCI, keyboard, pointing device, video card, ….
	for _, device := range esx.VirtualDevice {
		if !taken[device.GetVirtualDevice().Key] {
			devices = append(devices, device)
		}
	}
	for _, disk := range disks {
		devices = append(devices, buildDisk(state, disk))
	}
	for i, nic := range vm.Nics {
		devices = append(devices, buildNic(nic, int32(i)))
	}
	return devices
}

func buildController(c labController, disks []labDisk) types.BaseVirtualDevice {
	names := map[string]string{"scsi": "SCSI controller", "ide": "IDE", "sata": "SATA controller", "nvme": "NVME controller"}
	base := types.VirtualController{
		VirtualDevice: types.VirtualDevice{
			Key: c.Key,
			DeviceInfo: &types.Description{
				Label:   fmt.Sprintf("%s %d", names[c.Kind], c.Bus),
				Summary: fmt.Sprintf("%s %d", names[c.Kind], c.Bus),
			},
		},
		BusNumber: c.Bus,
	}
	for _, disk := range disks {
		if disk.ControllerKey == c.Key {
			base.Device = append(base.Device, disk.Key)
		}
	}
	if c.Kind != "ide" {
		base.ControllerKey = 100 // on the PCI bus
	}

	switch c.Kind {
	case "ide":
		return &types.VirtualIDEController{VirtualController: base}
	case "sata":
		return &types.VirtualAHCIController{VirtualSATAController: types.VirtualSATAController{VirtualController: base}}
	case "nvme":
		return &types.VirtualNVMEController{VirtualController: base}
	}
	sharing := map[string]types.VirtualSCSISharing{
		"virtual":  types.VirtualSCSISharingVirtualSharing,
		"physical": types.VirtualSCSISharingPhysicalSharing,
	}[c.SharedBus]
	if sharing == "" {
		sharing = types.VirtualSCSISharingNoSharing
	}
	scsi := types.VirtualSCSIController{
		VirtualController:  base,
		HotAddRemove:       types.NewBool(true),
		SharedBus:          sharing,
		ScsiCtlrUnitNumber: 7,
	}
	switch c.VirtualDev {
	case "pvscsi":
		return &types.ParaVirtualSCSIController{VirtualSCSIController: scsi}
	case "lsisas1068":
		return &types.VirtualLsiLogicSASController{VirtualSCSIController: scsi}
	case "buslogic":
		return &types.VirtualBusLogicController{VirtualSCSIController: scsi}
	default:
		return &types.VirtualLsiLogicController{VirtualSCSIController: scsi}
	}
}

func buildDisk(state *labState, disk labDisk) *types.VirtualDisk {
	unit := disk.Unit
	return &types.VirtualDisk{
		VirtualDevice: types.VirtualDevice{
			Key: disk.Key,
			DeviceInfo: &types.Description{
				Label:   disk.Label,
				Summary: thousands(disk.CapacityBytes/1024) + " KB",
			},
			Backing:       buildBacking(state, disk),
			ControllerKey: disk.ControllerKey,
			UnitNumber:    &unit,
		},
		CapacityInKB:    disk.CapacityBytes / 1024,
		CapacityInBytes: disk.CapacityBytes,
		DiskObjectId:    fmt.Sprintf("1-%d", disk.Key),
	}
}

// thousands groups digits by commas, as the summary of a disk shows its size.
func thousands(n int64) string {
	text := strconv.FormatInt(n, 10)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// diskUUID writes a descriptor's `60 00 C2 9a …` as the API shows it.
func diskUUID(uuid *string) string {
	hex := strings.ToLower(strings.NewReplacer(" ", "", "-", "").Replace(textOf(uuid)))
	if len(hex) != 32 {
		return textOf(uuid)
	}
	return strings.ToUpper(hex[0:8] + "-" + hex[8:12] + "-" + hex[12:16] + "-" + hex[16:20] + "-" + hex[20:])
}

func buildBacking(state *labState, disk labDisk) types.BaseVirtualDeviceBackingInfo {
	uuid, changeID := diskUUID(disk.UUID), textOf(disk.ChangeID)
	file := func(layer labLayer) types.VirtualDeviceFileBackingInfo {
		info := types.VirtualDeviceFileBackingInfo{FileName: layer.FileName, BackingObjectId: ""}
		if d := state.datastoreOf(layer.FileName); d != nil {
			ref := datastoreRef(d)
			info.Datastore = &ref
		}
		return info
	}
	chain := disk.Chain
	if len(chain) == 0 {
		chain = []labLayer{{}}
	}
	sharing := disk.Sharing

	// The chain is built from its base upwards. Only the top layer carries the changeId.
	switch disk.Backing {
	case "seSparse":
		var top *types.VirtualDiskSeSparseBackingInfo
		for i := len(chain) - 1; i >= 0; i-- {
			top = &types.VirtualDiskSeSparseBackingInfo{
				VirtualDeviceFileBackingInfo: file(chain[i]), DiskMode: disk.DiskMode,
				WriteThrough: types.NewBool(false), Uuid: uuid, Parent: top,
			}
			if i < len(chain)-1 {
				top.DeltaDiskFormat, top.GrainSize = "seSparseFormat", 8
			}
		}
		top.ContentId, top.ChangeId = disk.ContentID, changeID
		return top
	case "sparse":
		var top *types.VirtualDiskSparseVer2BackingInfo
		for i := len(chain) - 1; i >= 0; i-- {
			top = &types.VirtualDiskSparseVer2BackingInfo{
				VirtualDeviceFileBackingInfo: file(chain[i]), DiskMode: disk.DiskMode,
				Split: types.NewBool(false), WriteThrough: types.NewBool(false), Uuid: uuid, Parent: top,
			}
		}
		top.ContentId, top.ChangeId = disk.ContentID, changeID
		return top
	case "rdmVirtual", "rdmPhysical":
		mode := map[string]string{"rdmVirtual": "virtualMode", "rdmPhysical": "physicalMode"}[disk.Backing]
		var top *types.VirtualDiskRawDiskMappingVer1BackingInfo
		for i := len(chain) - 1; i >= 0; i-- {
			top = &types.VirtualDiskRawDiskMappingVer1BackingInfo{
				VirtualDeviceFileBackingInfo: file(chain[i]), DiskMode: disk.DiskMode,
				CompatibilityMode: mode, Uuid: uuid, Parent: top, Sharing: sharing,
			}
		}
		top.ContentId, top.ChangeId = disk.ContentID, changeID
		return top
	default:
		var top *types.VirtualDiskFlatVer2BackingInfo
		for i := len(chain) - 1; i >= 0; i-- {
			top = &types.VirtualDiskFlatVer2BackingInfo{
				VirtualDeviceFileBackingInfo: file(chain[i]), DiskMode: disk.DiskMode,
				Split: types.NewBool(false), WriteThrough: types.NewBool(false),
				ThinProvisioned: types.NewBool(disk.ThinProvisioned), EagerlyScrub: types.NewBool(disk.EagerlyScrub),
				Uuid: uuid, DigestEnabled: types.NewBool(false), Parent: top, Sharing: sharing,
			}
			if i < len(chain)-1 {
				top.DeltaDiskFormat = "redoLogFormat"
			}
		}
		top.ContentId, top.ChangeId = disk.ContentID, changeID
		return top
	}
}

func buildNic(nic labNic, index int32) types.BaseVirtualDevice {
	network := networkRef(nic.NetworkName)
	unit := 7 + index
	addressType := map[string]string{"static": "manual", "vpx": "assigned"}[nic.AddressType]
	if addressType == "" {
		addressType = "generated"
	}
	card := types.VirtualEthernetCard{
		VirtualDevice: types.VirtualDevice{
			Key:        nic.Key,
			DeviceInfo: &types.Description{Label: nic.Label, Summary: nic.NetworkName},
			Backing: &types.VirtualEthernetCardNetworkBackingInfo{
				VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{
					DeviceName:    nic.NetworkName,
					UseAutoDetect: types.NewBool(false),
				},
				Network: &network,
			},
			Connectable: &types.VirtualDeviceConnectInfo{
				StartConnected: true, AllowGuestControl: true, Connected: nic.Connected, Status: "ok",
			},
			ControllerKey: 100,
			UnitNumber:    &unit,
		},
		AddressType:      addressType,
		MacAddress:       textOf(nic.MacAddress),
		WakeOnLanEnabled: types.NewBool(true),
	}
	switch nic.VirtualDev {
	case "vmxnet3":
		return &types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: card}}
	case "e1000e":
		return &types.VirtualE1000e{VirtualEthernetCard: card}
	default:
		return &types.VirtualE1000{VirtualEthernetCard: card}
	}
}

func buildGuest(vm *labMachine) *types.GuestInfo {
	status := types.VirtualMachineToolsStatus(vm.Tools.Status)
	state := types.VirtualMachineGuestStateNotRunning
	guest := &types.GuestInfo{
		ToolsStatus:         status,
		ToolsVersionStatus:  vm.Tools.VersionStatus2,
		ToolsVersionStatus2: vm.Tools.VersionStatus2,
		ToolsRunningStatus:  vm.Tools.RunningStatus,
	}
	if vm.Tools.RunningStatus == "guestToolsRunning" {
		state = types.VirtualMachineGuestStateRunning
		guest.GuestId = vm.GuestID
		guest.GuestFullName = vm.GuestFullName
	}
	guest.GuestState = string(state)
	return guest
}

func buildConfigSummary(vm *labMachine, name string) types.VirtualMachineConfigSummary {
	return types.VirtualMachineConfigSummary{
		Name:             name,
		VmPathName:       vm.VmxPath,
		MemorySizeMB:     vm.MemoryMib,
		NumCpu:           vm.Cpus,
		NumEthernetCards: int32(len(vm.Nics)),
		NumVirtualDisks:  int32(len(vm.Disks)),
		Uuid:             textOf(vm.BiosUUID),
		InstanceUuid:     textOf(vm.InstanceUUID),
		GuestId:          vm.GuestID,
		GuestFullName:    vm.GuestFullName,
		Annotation:       vm.Annotation,
		HwVersion:        vm.HardwareVersion,
	}
}

// buildLayout lists the files, and for each disk the chain of (descriptor, extent) from its base up.
func buildLayout(vm *labMachine) *types.VirtualMachineFileLayoutEx {
	layout := &types.VirtualMachineFileLayoutEx{Timestamp: time.Now().UTC()}
	byName := map[string]labLayoutFile{}
	for _, file := range vm.Layout {
		byName[file.Name] = file
		layout.File = append(layout.File, types.VirtualMachineFileLayoutExFileInfo{
			Key: file.Key, Name: file.Name, Type: file.Type, Size: file.SizeBytes,
			UniqueSize: file.UniqueSizeBytes, Accessible: types.NewBool(file.Accessible),
		})
	}
	disksOf := func(disks []labDisk) []types.VirtualMachineFileLayoutExDiskLayout {
		var layouts []types.VirtualMachineFileLayoutExDiskLayout
		for _, disk := range disks {
			one := types.VirtualMachineFileLayoutExDiskLayout{Key: disk.Key}
			for i := len(disk.Chain) - 1; i >= 0; i-- {
				if keys := layerKeys(byName, disk.Chain[i].FileName); len(keys) > 0 {
					one.Chain = append(one.Chain, types.VirtualMachineFileLayoutExDiskUnit{FileKey: keys})
				}
			}
			layouts = append(layouts, one)
		}
		return layouts
	}
	layout.Disk = disksOf(vm.Disks)
	if vm.Snapshots != nil {
		walkSnapshots(vm.Snapshots.Roots, func(s *labSnapshot, _ []labSnapshot) {
			data := types.VirtualMachineFileLayoutExSnapshotLayout{Key: snapshotRef(vm.ID, s.ID), DataKey: -1, MemoryKey: -1, Disk: disksOf(s.Disks)}
			stem := strings.TrimSuffix(vm.VmxPath, ".vmx") + fmt.Sprintf("-Snapshot%d", s.ID)
			if file, ok := byName[stem+".vmsn"]; ok {
				data.DataKey = file.Key
			}
			if file, ok := byName[stem+".vmem"]; ok {
				data.MemoryKey = file.Key
			}
			layout.Snapshot = append(layout.Snapshot, data)
		})
	}
	return layout
}

// layerKeys finds the keys of a layer's descriptor and of the extents beside it.
func layerKeys(byName map[string]labLayoutFile, descriptor string) []int32 {
	var keys []int32
	if file, ok := byName[descriptor]; ok {
		keys = append(keys, file.Key)
	}
	stem := strings.TrimSuffix(descriptor, ".vmdk")
	for _, suffix := range []string{"-flat", "-delta", "-sesparse", "-rdm", "-rdmp"} {
		if file, ok := byName[stem+suffix+".vmdk"]; ok {
			keys = append(keys, file.Key)
		}
	}
	return keys
}

// datastoresOf lists the datastores that hold any of the machine's files, its own first.
func datastoresOf(state *labState, vm *labMachine) []types.ManagedObjectReference {
	var refs []types.ManagedObjectReference
	add := func(d *labDatastore) {
		if d != nil && !containsRef(refs, datastoreRef(d)) {
			refs = append(refs, datastoreRef(d))
		}
	}
	add(state.datastore(vm.Datastore))
	for _, disk := range vm.Disks {
		for _, layer := range disk.Chain {
			add(state.datastoreOf(layer.FileName))
		}
	}
	return refs
}

func buildStorage(state *labState, vm *labMachine) *types.VirtualMachineStorageInfo {
	storage := &types.VirtualMachineStorageInfo{Timestamp: time.Now().UTC()}
	usage := map[string]*types.VirtualMachineUsageOnDatastore{}
	for _, ref := range datastoresOf(state, vm) {
		usage[ref.Value] = &types.VirtualMachineUsageOnDatastore{Datastore: ref}
	}
	for _, file := range vm.Layout {
		if d := state.datastoreOf(file.Name); d != nil && usage[d.UUID] != nil {
			usage[d.UUID].Committed += file.UniqueSizeBytes
			usage[d.UUID].Unshared += file.UniqueSizeBytes
			if file.Type == "diskExtent" && file.SizeBytes > file.UniqueSizeBytes {
				usage[d.UUID].Uncommitted += file.SizeBytes - file.UniqueSizeBytes
			}
		}
	}
	for _, ref := range datastoresOf(state, vm) {
		storage.PerDatastoreUsage = append(storage.PerDatastoreUsage, *usage[ref.Value])
	}
	return storage
}

func summarizeStorage(storage *types.VirtualMachineStorageInfo) *types.VirtualMachineStorageSummary {
	summary := &types.VirtualMachineStorageSummary{Timestamp: storage.Timestamp}
	for _, usage := range storage.PerDatastoreUsage {
		summary.Committed += usage.Committed
		summary.Uncommitted += usage.Uncommitted
		summary.Unshared += usage.Unshared
	}
	return summary
}

func buildSnapshotTree(vmID int64, snapshots []labSnapshot) []types.VirtualMachineSnapshotTree {
	var tree []types.VirtualMachineSnapshotTree
	for _, s := range snapshots {
		tree = append(tree, types.VirtualMachineSnapshotTree{
			Snapshot:          snapshotRef(vmID, s.ID),
			Vm:                machineRef(vmID),
			Name:              s.Name,
			Description:       s.Description,
			Id:                s.ID,
			CreateTime:        timeOfMs(s.CreateTimeMs),
			State:             types.VirtualMachinePowerState(s.State),
			Quiesced:          s.Quiesced,
			BackupManifest:    textOf(s.BackupManifest),
			ChildSnapshotList: buildSnapshotTree(vmID, s.Children),
			ReplaySupported:   types.NewBool(false),
		})
	}
	return tree
}

// walkSnapshots visits every snapshot of a tree, parents first, together with its children.
func walkSnapshots(snapshots []labSnapshot, visit func(s *labSnapshot, children []labSnapshot)) {
	for i := range snapshots {
		visit(&snapshots[i], snapshots[i].Children)
		walkSnapshots(snapshots[i].Children, visit)
	}
}

// buildSnapshots makes the snapshot objects of a machine, each with the configuration of its moment.
func buildSnapshots(state *labState, vm *labMachine) []*mo.VirtualMachineSnapshot {
	if vm.Snapshots == nil {
		return nil
	}
	var objects []*mo.VirtualMachineSnapshot
	walkSnapshots(vm.Snapshots.Roots, func(s *labSnapshot, children []labSnapshot) {
		object := new(mo.VirtualMachineSnapshot)
		object.Self = snapshotRef(vm.ID, s.ID)
		object.Vm = machineRef(vm.ID)
		object.Config = buildConfig(state, vm, s.Config, s.Disks)
		for _, child := range children {
			object.ChildSnapshot = append(object.ChildSnapshot, snapshotRef(vm.ID, child.ID))
		}
		objects = append(objects, object)
	})
	return objects
}
