package main

import (
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// inventory brings the simulator's objects in line with the daemon's state. Machines, snapshots,
// datastores, networks and tasks are plain property objects: the simulator's own classes would act on
// calls by themselves, but the daemon alone changes anything.
type inventory struct {
	state *labState
	// tasksDueAt is when a task stops being shown as queued although nothing changes at the daemon.
	tasksDueAt time.Time
	// own and tasks are the objects made here, which go when the daemon no longer has them.
	own   map[types.ManagedObjectReference]bool
	tasks map[types.ManagedObjectReference]bool
	// changes counts what a client that waits for updates could see.
	changes uint64
}

func newInventory() *inventory {
	return &inventory{own: map[types.ManagedObjectReference]bool{}}
}

// sync applies a state. The caller holds the host's write lock.
func (v *inventory) sync(state *labState, now time.Time) {
	if v.state != state {
		v.syncHost(state)
		v.syncObjects(state)
		v.state = state
		v.syncTasks(now)
		return
	}
	if !v.tasksDueAt.IsZero() && !now.Before(v.tasksDueAt) {
		v.syncTasks(now)
	}
}

func about(a labAbout) types.AboutInfo {
	return types.AboutInfo{
		Name: a.Name, FullName: a.FullName, Vendor: a.Vendor, Version: a.Version, Build: a.Build,
		LocaleVersion: "INTL", LocaleBuild: "000", OsType: a.OsType, ProductLineId: a.ProductLineID,
		ApiType: a.APIType, ApiVersion: a.APIVersion,
		LicenseProductName: a.LicenseProductName, LicenseProductVersion: a.LicenseProductVersion,
	}
}

func (v *inventory) syncHost(state *labState) {
	info := about(state.About)
	instance := simulator.Map.Get(types.ManagedObjectReference{Type: "ServiceInstance", Value: "ServiceInstance"}).(*simulator.ServiceInstance)
	instance.Content.About = info

	licenses := simulator.Map.Get(*instance.Content.LicenseManager).(*simulator.LicenseManager)
	licenses.Licenses = []types.LicenseManagerLicenseInfo{{
		LicenseKey: state.License.LicenseKey,
		EditionKey: state.License.EditionKey,
		Name:       state.License.Name,
		CostUnit:   state.License.CostUnit,
		Properties: []types.KeyAnyValue{
			{Key: "ProductName", Value: state.About.LicenseProductName},
			{Key: "ProductVersion", Value: state.About.LicenseProductVersion},
		},
	}}
	licenses.LicensedEdition = state.License.EditionKey

	host := simulator.Map.Get(hostRef).(*simulator.HostSystem)
	boot := timeOfMs(state.BootTimeMs)
	host.Name = state.Host.Name
	host.Summary.Host = &hostRef
	host.Summary.Config.Name = state.Host.Name
	host.Summary.Config.Product = &info
	host.Summary.OverallStatus = types.ManagedEntityStatusGreen
	host.Runtime.BootTime = &boot
	if host.Summary.Hardware != nil {
		host.Summary.Hardware.Uuid = state.Host.UUID
		host.Summary.Hardware.CpuMhz = state.Host.CPUMhz
		host.Summary.Hardware.NumCpuCores = state.Host.CPUCores
		host.Summary.Hardware.MemorySize = state.Host.MemoryBytes
	}
	if host.Hardware != nil {
		host.Hardware.SystemInfo.Uuid = state.Host.UUID
		host.Hardware.MemorySize = state.Host.MemoryBytes
	}
	if host.Config != nil {
		host.Config.Host = hostRef
		host.Config.Product = info
		host.Config.LockdownMode = types.HostLockdownMode(state.LockdownMode)
		host.Config.AdminDisabled = types.NewBool(state.LockdownMode != "lockdownDisabled")
		host.Config.Service = serviceInfo(state)
	}
	host.ConfigManager.ServiceSystem = &serviceSystemRef

	services := &mo.HostServiceSystem{ServiceInfo: *serviceInfo(state)}
	services.Self = serviceSystemRef
	v.put(services)
}

func serviceInfo(state *labState) *types.HostServiceInfo {
	labels := map[string]string{"TSM": "ESXi Shell", "TSM-SSH": "SSH"}
	info := new(types.HostServiceInfo)
	for _, service := range state.Services {
		info.Service = append(info.Service, types.HostService{
			Key: service.Key, Label: labels[service.Key], Running: service.Running, Policy: service.Policy,
		})
	}
	return info
}

// put adds an object, or overwrites the one that is there: watchers of it stay attached.
func (v *inventory) put(object mo.Reference) {
	ref := object.Reference()
	if existing := simulator.Map.Get(ref); existing != nil {
		target, source := reflect.ValueOf(existing).Elem(), reflect.ValueOf(object).Elem()
		if target.Type() == source.Type() {
			if entity, ok := object.(mo.Entity); ok {
				mark(entity)
			}
			if reflect.DeepEqual(target.Interface(), source.Interface()) {
				return
			}
			target.Set(source)
			v.changes++
			return
		}
	}
	v.changes++
	simulator.Map.Put(object)
}

// mark sets what the simulator sets when an entity is added.
func mark(entity mo.Entity) {
	e := entity.Entity()
	e.ConfigStatus = types.ManagedEntityStatusGreen
	e.OverallStatus = types.ManagedEntityStatusGreen
	e.EffectiveRole = []int32{-1}
}

func (v *inventory) syncObjects(state *labState) {
	var vms, datastores, networks []types.ManagedObjectReference
	var objects []mo.Reference

	usedBy := map[types.ManagedObjectReference][]types.ManagedObjectReference{}
	for i := range state.Vms {
		vm := &state.Vms[i]
		machine := buildMachine(state, vm)
		vms = append(vms, machine.Self)
		objects = append(objects, machine)
		for _, ref := range append(append([]types.ManagedObjectReference{}, machine.Datastore...), machine.Network...) {
			usedBy[ref] = append(usedBy[ref], machine.Self)
		}
		for _, snapshot := range buildSnapshots(state, vm) {
			objects = append(objects, snapshot)
		}
	}
	for i := range state.Datastores {
		datastore := buildDatastore(&state.Datastores[i])
		datastore.Vm = usedBy[datastore.Self]
		browser := &mo.HostDatastoreBrowser{Self: datastore.Browser, Datastore: []types.ManagedObjectReference{datastore.Self}}
		objects = append(objects, browser)
		datastores = append(datastores, datastore.Self)
		objects = append(objects, datastore)
	}
	for _, n := range state.Networks {
		network := buildNetwork(n.Name)
		network.Vm = usedBy[network.Self]
		networks = append(networks, network.Self)
		objects = append(objects, network)
	}

	// References first: views look an added object up from their root.
	setChildren(vmFolderRef, vms)
	setChildren(datastoreFolderRef, datastores)
	setChildren(networkFolderRef, networks)
	host := simulator.Map.Get(hostRef).(*simulator.HostSystem)
	host.Vm, host.Datastore, host.Network = vms, datastores, networks
	compute := simulator.Map.Get(computeRef).(*mo.ComputeResource)
	compute.Name, compute.Datastore, compute.Network = state.Host.Name, datastores, networks
	simulator.Map.Get(poolRef).(*simulator.ResourcePool).Vm = vms
	datacenter := simulator.Map.Get(datacenterRef).(*simulator.Datacenter)
	datacenter.Datastore, datacenter.Network = datastores, networks

	present := map[types.ManagedObjectReference]bool{}
	for _, object := range objects {
		v.put(object)
		present[object.Reference()] = true
	}
	for ref := range v.own {
		if !present[ref] {
			simulator.Map.Remove(ref)
			v.changes++
		}
	}
	v.own = present
}

func setChildren(folder types.ManagedObjectReference, children []types.ManagedObjectReference) {
	simulator.Map.Get(folder).(*simulator.Folder).ChildEntity = children
}

func buildNetwork(name string) *mo.Network {
	network := new(mo.Network)
	network.Self = networkRef(name)
	network.Parent = &networkFolderRef
	network.Name = name
	network.ManagedEntity.Name = name
	network.Host = []types.ManagedObjectReference{hostRef}
	network.Summary = &types.NetworkSummary{Network: &network.Self, Name: name, Accessible: true}
	return network
}

func buildDatastore(d *labDatastore) *mo.Datastore {
	datastore := new(mo.Datastore)
	datastore.Self = datastoreRef(d)
	datastore.Parent = &datastoreFolderRef
	datastore.Name = escapeName(d.Name)
	datastore.Browser = browserRef(d)
	kind := map[string]string{"VMFS-6": "VMFS", "VMFS-5": "VMFS"}[d.Type]
	if kind == "" {
		kind = d.Type
	}
	datastore.Summary = types.DatastoreSummary{
		Datastore: &datastore.Self, Name: d.Name, Url: d.URL, Capacity: d.CapacityBytes,
		FreeSpace: d.FreeBytes, Accessible: d.Accessible, MultipleHostAccess: types.NewBool(d.Nfs != nil),
		Type: kind, MaintenanceMode: "normal",
	}
	info := types.DatastoreInfo{
		Name: d.Name, Url: d.URL, FreeSpace: d.FreeBytes,
		MaxFileSize: 70368744177664, MaxVirtualDiskCapacity: 68169720922112,
	}
	access := "readWrite"
	if d.Nfs != nil {
		if d.Nfs.ReadOnly {
			access = "readOnly"
		}
		datastore.Info = &types.NasDatastoreInfo{DatastoreInfo: info, Nas: &types.HostNasVolume{
			HostFileSystemVolume: types.HostFileSystemVolume{Type: "NFS", Name: d.Name, Capacity: d.CapacityBytes},
			RemoteHost:           d.Nfs.Host, RemotePath: d.Nfs.Share,
		}}
	} else {
		major, _ := strconv.Atoi(strings.TrimPrefix(d.Type, "VMFS-"))
		version := map[int]string{5: "5.81", 6: "6.82"}[major]
		datastore.Info = &types.VmfsDatastoreInfo{DatastoreInfo: info, Vmfs: &types.HostVmfsVolume{
			HostFileSystemVolume: types.HostFileSystemVolume{Type: "VMFS", Name: d.Name, Capacity: d.CapacityBytes},
			BlockSizeMb:          1, BlockSize: 1024, MaxBlocks: 63963136, MajorVersion: int32(major), Version: version,
			Uuid: d.UUID, Local: types.NewBool(true), Ssd: types.NewBool(true),
		}}
	}
	datastore.Host = []types.DatastoreHostMount{{
		Key: hostRef,
		MountInfo: types.HostMountInfo{
			Path: strings.TrimSuffix(d.URL, "/"), AccessMode: access,
			Mounted: types.NewBool(d.Accessible), Accessible: types.NewBool(d.Accessible),
		},
	}}
	datastore.Capability = types.DatastoreCapability{
		DirectoryHierarchySupported:      true,
		RawDiskMappingsSupported:         d.Nfs == nil,
		PerFileThinProvisioningSupported: true,
		SeSparseSupported:                types.NewBool(d.Type == "VMFS-6"),
		VmfsSparseSupported:              types.NewBool(d.Type != "VMFS-6"),
	}
	return datastore
}
