package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

func (f *front) connect(t *testing.T) *govmomi.Client {
	t.Helper()
	u, err := url.Parse(f.server.URL + "/sdk")
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(testUser, testPassword)
	client, err := govmomi.NewClient(context.Background(), u, true)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func vimFaultOf(err error) interface{} {
	if soap.IsSoapFault(err) {
		return soap.ToSoapFault(err).VimFault()
	}
	return err
}

func TestPresentsAnESXiHost(t *testing.T) {
	f := startFront(t, options{})
	client := f.connect(t)

	about := client.ServiceContent.About
	if about.ApiType != "HostAgent" || about.ProductLineId != "embeddedEsx" || about.Version != "8.0.3" || about.Build != "24674464" {
		t.Fatalf("about: %+v", about)
	}
	var licenses mo.LicenseManager
	if err := property.DefaultCollector(client.Client).RetrieveOne(context.Background(), *client.ServiceContent.LicenseManager, []string{"licenses"}, &licenses); err != nil {
		t.Fatal(err)
	}
	if len(licenses.Licenses) != 1 || licenses.Licenses[0].EditionKey != "esx.standard.cpuPackage" {
		t.Fatalf("licenses: %+v", licenses.Licenses)
	}
	var esx mo.HostSystem
	if err := property.DefaultCollector(client.Client).RetrieveOne(context.Background(), hostRef, []string{"name", "config.lockdownMode", "summary.config.product"}, &esx); err != nil {
		t.Fatal(err)
	}
	if esx.Name != "esx1" || esx.Config.LockdownMode != "lockdownDisabled" || esx.Summary.Config.Product.Build != "24674464" {
		t.Fatalf("host: %s %+v", esx.Name, esx.Config)
	}
}

func retrieveMachines(t *testing.T, client *govmomi.Client, properties ...string) []mo.VirtualMachine {
	t.Helper()
	ctx := context.Background()
	v, err := view.NewManager(client.Client).CreateContainerView(ctx, client.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Destroy(ctx) }()
	var machines []mo.VirtualMachine
	if err := v.Retrieve(ctx, []string{"VirtualMachine"}, properties, &machines); err != nil {
		t.Fatal(err)
	}
	return machines
}

func TestListsMachinesWithTheirDevices(t *testing.T) {
	f := startFront(t, options{})
	client := f.connect(t)

	machines := retrieveMachines(t, client, "name", "config", "runtime", "guest", "layoutEx", "storage", "capability", "datastore", "summary", "snapshot")
	if len(machines) != 1 {
		t.Fatalf("%d machines", len(machines))
	}
	m := machines[0]
	if m.Self.Value != "5" || m.Name != "sql%2f50%25" || m.Config.Name != m.Name {
		t.Fatalf("identity: %s %q %q", m.Self, m.Name, m.Config.Name)
	}
	if m.Config.Uuid != "564d8a1e-3c55-ba10-9a0f-112233445566" || m.Config.Files.VmPathName != "[ds 1] sql/sql.vmx" || !*m.Config.ChangeTrackingEnabled {
		t.Fatalf("config: %+v", m.Config)
	}
	if m.Snapshot != nil || m.Runtime.PowerState != "poweredOn" || *m.Runtime.ConsolidationNeeded {
		t.Fatalf("runtime: %+v", m.Runtime)
	}
	devices := object.VirtualDeviceList(m.Config.Hardware.Device)
	disks := devices.SelectByType((*types.VirtualDisk)(nil))
	if len(disks) != 1 {
		t.Fatalf("%d disks", len(disks))
	}
	disk := disks[0].(*types.VirtualDisk)
	backing := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if disk.Key != 2000 || disk.CapacityInBytes != 16<<20 || backing.FileName != "[ds 1] sql/sql.vmdk" ||
		backing.Uuid != "6000C29A-1122-3344-5566-778899AABBCC" || !*backing.ThinProvisioned || backing.ChangeId != "" {
		t.Fatalf("disk: %+v %+v", disk, backing)
	}
	if _, ok := devices.FindByKey(disk.ControllerKey).(*types.ParaVirtualSCSIController); !ok {
		t.Fatalf("controller: %T", devices.FindByKey(disk.ControllerKey))
	}
	for _, kind := range []types.BaseVirtualDevice{(*types.VirtualAHCIController)(nil), (*types.VirtualNVMEController)(nil), (*types.VirtualIDEController)(nil)} {
		if len(devices.SelectByType(kind)) == 0 {
			t.Errorf("no %T", kind)
		}
	}
	nic := devices.SelectByType((*types.VirtualVmxnet3)(nil))[0].(*types.VirtualVmxnet3)
	if nic.MacAddress != "00:0c:29:aa:bb:cc" || nic.AddressType != "generated" {
		t.Fatalf("nic: %+v", nic)
	}
	if len(m.LayoutEx.Disk) != 1 || !reflect.DeepEqual(m.LayoutEx.Disk[0].Chain[0].FileKey, []int32{1, 2}) {
		t.Fatalf("layout: %+v", m.LayoutEx.Disk)
	}
	if usage := m.Storage.PerDatastoreUsage; len(usage) != 1 || usage[0].Committed != 2931+523+4<<20 || usage[0].Uncommitted != 12<<20 {
		t.Fatalf("usage: %+v", usage)
	}
}

func TestTakesAndRemovesASnapshot(t *testing.T) {
	f := startFront(t, options{})
	f.change(func(s *labState) { s.Switches.TaskQueuedMs = 20 })
	client := f.connect(t)
	ctx := context.Background()
	vm := object.NewVirtualMachine(client.Client, machineRef(5))

	task, err := vm.CreateSnapshot(ctx, "dozo-1", "nightly", false, true)
	if err != nil {
		t.Fatal(err)
	}
	var created mo.Task
	if err := property.DefaultCollector(client.Client).RetrieveOne(ctx, task.Reference(), []string{"info"}, &created); err != nil {
		t.Fatal(err)
	}
	if created.Info.State != types.TaskInfoStateQueued || created.Info.Result != nil {
		t.Fatalf("task is %s right after its creation", created.Info.State)
	}
	info, err := task.WaitForResult(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if info.Result != snapshotRef(5, 3) {
		t.Fatalf("result: %+v", info.Result)
	}

	m := retrieveMachines(t, client, "snapshot", "config.hardware.device", "rootSnapshot")[0]
	root := m.Snapshot.RootSnapshotList[0]
	if *m.Snapshot.CurrentSnapshot != snapshotRef(5, 3) || root.Name != "dozo-1" || !root.Quiesced || root.Snapshot.Value != "5-snapshot-3" || root.CreateTime.Unix() != 1_700_000_100 {
		t.Fatalf("tree: %+v", root)
	}
	live := object.VirtualDeviceList(m.Config.Hardware.Device).SelectByType((*types.VirtualDisk)(nil))[0].(*types.VirtualDisk)
	delta := live.Backing.(*types.VirtualDiskSeSparseBackingInfo)
	if delta.FileName != "[ds 1] sql/sql-000001.vmdk" || delta.Parent.FileName != "[ds 1] sql/sql.vmdk" || delta.ChangeId != "" {
		t.Fatalf("live disk: %+v", delta)
	}
	var snapshot mo.VirtualMachineSnapshot
	if err := property.DefaultCollector(client.Client).RetrieveOne(ctx, snapshotRef(5, 3), []string{"config.hardware.device", "vm"}, &snapshot); err != nil {
		t.Fatal(err)
	}
	frozen := object.VirtualDeviceList(snapshot.Config.Hardware.Device).SelectByType((*types.VirtualDisk)(nil))[0].(*types.VirtualDisk)
	base := frozen.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if base.ChangeId != "52 2d 7b 8f ac 61 51 cc-77 4c 7b ec 91 50 bb 7b/1" || base.FileName != "[ds 1] sql/sql.vmdk" {
		t.Fatalf("frozen disk: %+v", base)
	}

	res, err := methods.RemoveSnapshot_Task(ctx, client, &types.RemoveSnapshot_Task{This: snapshotRef(5, 3), RemoveChildren: false, Consolidate: types.NewBool(true)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := object.NewTask(client.Client, res.Returnval).WaitForResult(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if m := retrieveMachines(t, client, "snapshot")[0]; m.Snapshot != nil {
		t.Fatalf("snapshot stayed: %+v", m.Snapshot)
	}
	_, err = methods.RemoveSnapshot_Task(ctx, client, &types.RemoveSnapshot_Task{This: snapshotRef(5, 3)})
	if _, ok := vimFaultOf(err).(types.ManagedObjectNotFound); !ok {
		t.Fatalf("a removed snapshot: %v", err)
	}
}

func TestFreeLicenceRefusesEveryWrite(t *testing.T) {
	f := startFront(t, options{})
	f.change(func(s *labState) { s.License.Edition = "free" })
	cookie := f.rawLogin(t)
	bodies := map[string]string{
		"CreateSnapshot_Task":     `<_this type="VirtualMachine">5</_this><name>x</name><memory>false</memory><quiesce>false</quiesce>`,
		"RemoveAllSnapshots_Task": `<_this type="VirtualMachine">5</_this>`,
		"PowerOnVM_Task":          `<_this type="VirtualMachine">5</_this>`,
		"PowerOffVM_Task":         `<_this type="VirtualMachine">5</_this>`,
		"ReconfigVM_Task":         `<_this type="VirtualMachine">5</_this><spec><changeTrackingEnabled>true</changeTrackingEnabled></spec>`,
		"RegisterVM_Task":         `<_this type="Folder">ha-folder-vm</_this><path>[ds 1] sql/sql.vmx</path><asTemplate>false</asTemplate>`,
		"UnregisterVM":            `<_this type="VirtualMachine">5</_this>`,
		"ExportVm":                `<_this type="VirtualMachine">5</_this>`,
		"StartService":            `<_this type="HostServiceSystem">serviceSystem</_this><id>TSM-SSH</id>`,
	}
	for name, body := range bodies {
		for _, cookies := range []string{cookie, cookie + "; vmware_client=VMware"} {
			status, answer, _ := f.post(t, "/sdk", fmt.Sprintf(`<%s xmlns="urn:vim25">%s</%s>`, name, body, name), cookies)
			if status != http.StatusInternalServerError ||
				!strings.Contains(answer, "<faultstring>Current license or ESXi version prohibits execution of the requested operation.</faultstring>") ||
				!strings.Contains(answer, `<RestrictedVersionFault xmlns="urn:vim25" xsi:type="RestrictedVersion"></RestrictedVersionFault>`) {
				t.Errorf("%s with %q: %d %s", name, cookies, status, answer)
			}
		}
	}
	for _, request := range f.seen() {
		if !strings.HasPrefix(request, "POST /login") {
			t.Errorf("a refused call reached the daemon: %s", request)
		}
	}

	f.change(func(s *labState) { s.Switches.HostClientCookieBypass = true })
	if status, answer, _ := f.post(t, "/sdk", `<UnregisterVM xmlns="urn:vim25"><_this type="VirtualMachine">5</_this></UnregisterVM>`, cookie+"; vmware_client=VMware"); status != http.StatusOK {
		t.Errorf("bypass: %d %s", status, answer)
	}
}

func TestLoginAndSessions(t *testing.T) {
	f := startFront(t, options{sessionIdle: time.Hour})
	content := `<RetrieveServiceContent xmlns="urn:vim25"><_this%s>ServiceInstance</_this></RetrieveServiceContent>`
	for _, attribute := range []string{` type="ServiceInstance"`, ` xsi:type="ManagedObjectReference" type="ServiceInstance"`, ""} {
		if status, body, _ := f.post(t, "/sdk/vimService.wsdl", fmt.Sprintf(content, attribute), ""); status != http.StatusOK || !strings.Contains(body, "<productLineId>embeddedEsx</productLineId>") {
			t.Errorf("service content with %q: %d %s", attribute, status, body)
		}
	}

	login := `<Login xmlns="urn:vim25"><_this type="SessionManager">ha-sessionmgr</_this><userName>root</userName><password>%s</password></Login>`
	if status, body, _ := f.post(t, "/sdk", fmt.Sprintf(login, "wrong"), ""); status != 500 || !strings.Contains(body, `xsi:type="InvalidLogin"`) {
		t.Errorf("wrong password: %d %s", status, body)
	}
	now := `<CurrentTime xmlns="urn:vim25"><_this type="ServiceInstance">ServiceInstance</_this></CurrentTime>`
	properties := `<RetrievePropertiesEx xmlns="urn:vim25"><_this type="PropertyCollector">ha-property-collector</_this><specSet><propSet><type>HostSystem</type><pathSet>name</pathSet></propSet><objectSet><obj type="HostSystem">ha-host</obj></objectSet></specSet><options/></RetrievePropertiesEx>`
	for _, call := range []string{now, properties} {
		if status, body, _ := f.post(t, "/sdk", call, ""); status != 500 || !strings.Contains(body, `xsi:type="NotAuthenticated"`) {
			t.Errorf("without login: %d %s", status, body)
		}
	}

	cookie := f.rawLogin(t)
	if !strings.HasPrefix(cookie, `vmware_soap_session="`) {
		t.Errorf("cookie %q", cookie)
	}
	for _, form := range []string{cookie, strings.ReplaceAll(cookie, `"`, "")} {
		if status, body, _ := f.post(t, "/sdk", properties, form); status != 200 || !strings.Contains(body, "esx1") {
			t.Errorf("with %q: %d %s", form, status, body)
		}
	}

	f.host.sessions.now = func() time.Time { return time.Now().Add(61 * time.Minute) }
	if status, body, _ := f.post(t, "/sdk", now, cookie); status != 500 || !strings.Contains(body, `xsi:type="NotAuthenticated"`) {
		t.Errorf("idle session: %d %s", status, body)
	}
	f.host.sessions.now = time.Now

	cookie = f.rawLogin(t)
	f.change(func(s *labState) { s.Switches.SoapForgetSessions++ })
	if status, body, _ := f.post(t, "/sdk", now, cookie); status != 500 || !strings.Contains(body, `xsi:type="NotAuthenticated"`) {
		t.Errorf("forgotten session: %d %s", status, body)
	}
	cookie = f.rawLogin(t)
	if status, body, _ := f.post(t, "/sdk", `<Logout xmlns="urn:vim25"><_this type="SessionManager">ha-sessionmgr</_this></Logout>`, cookie); status != 200 {
		t.Errorf("logout: %d %s", status, body)
	}
	if status, _, _ := f.post(t, "/sdk", now, cookie); status != 500 {
		t.Errorf("after logout: %d", status)
	}

	f.change(func(s *labState) { s.LockdownMode = "lockdownNormal" })
	if status, body, _ := f.post(t, "/sdk", fmt.Sprintf(login, testPassword), ""); status != 500 || !strings.Contains(body, `xsi:type="NoPermission"`) {
		t.Errorf("lockdown: %d %s", status, body)
	}
}

func TestPagesResults(t *testing.T) {
	f := startFront(t, options{})
	f.change(func(s *labState) {
		for i := int64(6); i < 12; i++ {
			vm := s.Vms[0]
			vm.ID = i
			s.Vms = append(s.Vms, vm)
		}
		s.Switches.SoapPageSizeMax = pointer(int32(3))
	})
	client := f.connect(t)
	ctx := context.Background()
	v, err := view.NewManager(client.Client).CreateContainerView(ctx, client.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		t.Fatal(err)
	}
	collector := client.ServiceContent.PropertyCollector
	spec := types.PropertyFilterSpec{
		PropSet: []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"name", "config.hardware.device"}}},
		ObjectSet: []types.ObjectSpec{{Obj: v.Reference(), Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{
			&types.TraversalSpec{Type: "ContainerView", Path: "view"},
		}}},
	}

	first, err := methods.RetrievePropertiesEx(ctx, client, &types.RetrievePropertiesEx{This: collector, SpecSet: []types.PropertyFilterSpec{spec}, Options: types.RetrieveOptions{MaxObjects: 4}})
	if err != nil {
		t.Fatal(err)
	}
	seen, sizes, token := map[string]bool{}, []int{len(first.Returnval.Objects)}, first.Returnval.Token
	note := func(objects []types.ObjectContent) {
		for _, o := range objects {
			seen[o.Obj.Value] = true
			if len(o.PropSet) != 2 {
				t.Errorf("%s has %d properties", o.Obj.Value, len(o.PropSet))
			}
		}
	}
	note(first.Returnval.Objects)
	stale := token
	for token != "" {
		next, err := methods.ContinueRetrievePropertiesEx(ctx, client, &types.ContinueRetrievePropertiesEx{This: collector, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		note(next.Returnval.Objects)
		sizes, token = append(sizes, len(next.Returnval.Objects)), next.Returnval.Token
	}
	if len(seen) != 7 || !reflect.DeepEqual(sizes, []int{3, 3, 1}) {
		t.Fatalf("saw %d machines in pages of %v", len(seen), sizes)
	}
	_, err = methods.ContinueRetrievePropertiesEx(ctx, client, &types.ContinueRetrievePropertiesEx{This: collector, Token: stale})
	if _, ok := vimFaultOf(err).(types.InvalidArgument); !ok {
		t.Fatalf("a used token: %v", err)
	}

	f.change(func(s *labState) { s.Vms = nil })
	empty, err := methods.RetrievePropertiesEx(ctx, client, &types.RetrievePropertiesEx{This: collector, SpecSet: []types.PropertyFilterSpec{spec}})
	if err != nil || empty.Returnval != nil {
		t.Fatalf("nothing matches: %v %+v", err, empty)
	}
}

func TestAnswersChangedAreasAndTheirFaults(t *testing.T) {
	f := startFront(t, options{})
	client := f.connect(t)
	ctx := context.Background()
	var asked changedAreasRequest
	f.areas = func(in changedAreasRequest) (changedAreas, *labFault) {
		asked = in
		answer := changedAreas{StartOffset: in.StartOffset, Length: 1 << 20}
		answer.Areas = append(answer.Areas, struct {
			Start  int64 `json:"start"`
			Length int64 `json:"length"`
		}{in.StartOffset + 65536, 131072})
		return answer, nil
	}
	request := &types.QueryChangedDiskAreas{This: machineRef(5), Snapshot: pointer(snapshotRef(5, 3)), DeviceKey: 2000, StartOffset: 1 << 20, ChangeId: "*"}

	res, err := methods.QueryChangedDiskAreas(ctx, client, request)
	if err != nil {
		t.Fatal(err)
	}
	if res.Returnval.StartOffset != 1<<20 || res.Returnval.Length != 1<<20 || !reflect.DeepEqual(res.Returnval.ChangedArea, []types.DiskChangeExtent{{Start: 1<<20 + 65536, Length: 131072}}) {
		t.Fatalf("areas: %+v", res.Returnval)
	}
	if *asked.Snapshot != 3 || asked.DeviceKey != 2000 || asked.ChangeID != "*" {
		t.Fatalf("asked: %+v", asked)
	}

	refuse := func(fault *labFault) interface{} {
		f.areas = func(changedAreasRequest) (changedAreas, *labFault) { return changedAreas{}, fault }
		_, err := methods.QueryChangedDiskAreas(ctx, client, request)
		return vimFaultOf(err)
	}
	fault := &labFault{Type: "FileFault", Message: "Error caused by file /vmfs/volumes/x/a.vmdk", Fields: map[string]string{"file": "/vmfs/volumes/x/a.vmdk"}}
	fault.Messages = append(fault.Messages, struct {
		Key     string `json:"key"`
		Message string `json:"message"`
	}{"vim.hostd.vmsvc.cbt.noTrack", "Change tracking is not active."})
	fileFault, ok := refuse(fault).(types.FileFault)
	if !ok || fileFault.File != "/vmfs/volumes/x/a.vmdk" || fileFault.FaultMessage[0].Key != "vim.hostd.vmsvc.cbt.noTrack" {
		t.Errorf("file fault: %+v", fileFault)
	}
	if argument, ok := refuse(&labFault{Type: "InvalidArgument", Fields: map[string]string{"invalidProperty": "startOffset"}}).(types.InvalidArgument); !ok || argument.InvalidProperty != "startOffset" {
		t.Errorf("invalid argument: %+v", argument)
	}
	if _, ok := refuse(&labFault{Type: "NotFound"}).(types.NotFound); !ok {
		t.Error("not found")
	}
	if _, ok := refuse(&labFault{Type: "RestrictedVersion"}).(types.RestrictedVersion); !ok {
		t.Error("restricted version")
	}
	if gone, ok := refuse(&labFault{Type: "ManagedObjectNotFound"}).(types.ManagedObjectNotFound); !ok || gone.Obj != snapshotRef(5, 3) {
		t.Errorf("gone: %+v", gone)
	}
}

func TestKeepsAViewCurrentAsMachinesComeAndGo(t *testing.T) {
	f := startFront(t, options{})
	client := f.connect(t)
	ctx := context.Background()
	v, err := view.NewManager(client.Client).CreateContainerView(ctx, client.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		t.Fatal(err)
	}
	names := func() []string {
		var machines []mo.VirtualMachine
		if err := v.Retrieve(ctx, []string{"VirtualMachine"}, []string{"name"}, &machines); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range machines {
			names = append(names, m.Name)
		}
		return names
	}

	f.change(func(s *labState) {
		s.Vms = append([]labMachine{}, s.Vms...)
		s.Vms = append(s.Vms, labMachine{ID: 9, Name: "broken", VmxPath: "[ds 1] broken/broken.vmx", PowerState: "poweredOff"})
	})
	if got := names(); !reflect.DeepEqual(got, []string{"sql%2f50%25", "broken"}) {
		t.Fatalf("after a registration: %q", got)
	}
	f.change(func(s *labState) { s.Vms = s.Vms[1:]; s.Vms[0].Name = "renamed" })
	if got := names(); !reflect.DeepEqual(got, []string{"renamed"}) {
		t.Fatalf("after an unregistration: %q", got)
	}
}

func TestRegistersAndReadsTheResultFromTheTask(t *testing.T) {
	f := startFront(t, options{})
	client := f.connect(t)
	ctx := context.Background()
	folder := object.NewFolder(client.Client, vmFolderRef)

	task, err := folder.RegisterVM(ctx, "[ds 1] sql/sql.vmx", "a%2fb", false, object.NewResourcePool(client.Client, poolRef), nil)
	if err != nil {
		t.Fatal(err)
	}
	info, err := task.WaitForResult(ctx, nil)
	if err != nil || info.Result != machineRef(5) {
		t.Fatalf("register: %v %+v", err, info)
	}
	if body := f.bodies[len(f.bodies)-1]; body != `{"name":"a/b","path":"[ds 1] sql/sql.vmx"}` {
		t.Fatalf("the daemon was asked %s", body)
	}
}

func TestBrowsesDatastoresOnAnyLicence(t *testing.T) {
	f := startFront(t, options{})
	f.writeTestFile(t, "sql/sql.vmx", 10)
	f.writeTestFile(t, "sql/sql-flat.vmdk", 1000)
	f.change(func(s *labState) { s.License.Edition = "free" })
	client := f.connect(t)
	ctx := context.Background()
	var datastore mo.Datastore
	if err := property.DefaultCollector(client.Client).RetrieveOne(ctx, types.ManagedObjectReference{Type: "Datastore", Value: dsUUID}, []string{"browser"}, &datastore); err != nil {
		t.Fatal(err)
	}
	browser := object.NewHostDatastoreBrowser(client.Client, datastore.Browser)

	task, err := browser.SearchDatastore(ctx, "[ds 1] sql", &types.HostDatastoreBrowserSearchSpec{MatchPattern: []string{"*.vmdk"}})
	if err != nil {
		t.Fatal(err)
	}
	info, err := task.WaitForResult(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	found := info.Result.(types.HostDatastoreBrowserSearchResults)
	if found.FolderPath != "[ds 1] sql/" || len(found.File) != 1 || found.File[0].GetFileInfo().Path != "sql-flat.vmdk" || found.File[0].GetFileInfo().FileSize != 1000 {
		t.Fatalf("found %+v", found)
	}
	task, err = browser.SearchDatastoreSubFolders(ctx, "[ds 1]", nil)
	if err != nil {
		t.Fatal(err)
	}
	if info, err = task.WaitForResult(ctx, nil); err != nil {
		t.Fatal(err)
	}
	all := info.Result.(types.ArrayOfHostDatastoreBrowserSearchResults).HostDatastoreBrowserSearchResults
	if len(all) != 2 || all[0].FolderPath != "[ds 1]" || len(all[1].File) != 2 {
		t.Fatalf("found %+v", all)
	}
	for _, path := range []string{"[ds 1] none", "[other] x", "[ds 1] ../.."} {
		task, err := browser.SearchDatastore(ctx, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := task.WaitForResult(ctx, nil); err == nil {
			t.Errorf("%s was listed", path)
		}
	}
}

func TestHostileBodiesGetFaults(t *testing.T) {
	f := startFront(t, options{})
	cookie := f.rawLogin(t)
	for name, body := range map[string]string{
		"nonsense":            `<<<`,
		"no method":           ``,
		"unknown method":      `<Frobnicate xmlns="urn:vim25"><_this type="VirtualMachine">5</_this></Frobnicate>`,
		"a type, no method":   `<VirtualDisk xmlns="urn:vim25"/>`,
		"unknown object":      `<PowerOnVM_Task xmlns="urn:vim25"><_this type="VirtualMachine">999</_this></PowerOnVM_Task>`,
		"path into an array":  `<RetrievePropertiesEx xmlns="urn:vim25"><_this type="PropertyCollector">ha-property-collector</_this><specSet><propSet><type>VirtualMachine</type><pathSet>config.hardware.device.key</pathSet></propSet><objectSet><obj type="VirtualMachine">5</obj></objectSet></specSet><options/></RetrievePropertiesEx>`,
		"method of other API": `<CreateCluster xmlns="urn:vim25"><_this type="Folder">ha-folder-vm</_this><name>x</name><spec/></CreateCluster>`,
	} {
		if status, answer, _ := f.post(t, "/sdk", body, cookie); status != 500 || !strings.Contains(answer, "<faultstring>") {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	if status, _, _ := f.post(t, "/sdk", `<CurrentTime xmlns="urn:vim25"><_this type="ServiceInstance">ServiceInstance</_this></CurrentTime>`, cookie); status != 200 {
		t.Errorf("the host does not answer any more: %d", status)
	}
}
