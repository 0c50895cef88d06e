package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// standIn plays the lab's daemon: enough of its protocol to test this front alone.
type standIn struct {
	mu       sync.Mutex
	state    labState
	open     func(path, kind string) openAnswer
	areas    func(changedAreasRequest) (changedAreas, *labFault)
	requests []string
	bodies   []string
	taskTime time.Duration
}

const (
	testUser     = "root"
	testPassword = "correct horse"
	dsUUID       = "5f0e9a10-c3d1a3b2-7f1e-0cc47a000001"
)

func pointer[T any](value T) *T { return &value }

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	local := t.TempDir()
	folder := filepath.Join(local, "sql")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	disk := labDisk{
		Key: 2000, Node: "scsi0:0", ControllerKey: 1000, Unit: 0, Label: "Hard disk 1", CapacityBytes: 16 << 20,
		Backing: "flat", DiskMode: "persistent", Sharing: "sharingNone", ThinProvisioned: true,
		Chain:     []labLayer{{"[ds 1] sql/sql.vmdk", "/vmfs/volumes/" + dsUUID + "/sql/sql.vmdk"}},
		UUID:      pointer("60 00 C2 9a 11 22 33 44-55 66 77 88 99 aa bb cc"),
		ContentID: "4b4b1a2c",
	}
	s := &standIn{taskTime: 30 * time.Millisecond}
	s.state = labState{
		Generation: 1,
		About: labAbout{
			Name: "VMware ESXi", FullName: "VMware ESXi 8.0.3 build-24674464", Vendor: "VMware, Inc.", Version: "8.0.3",
			Build: "24674464", APIVersion: "8.0.3.0", OsType: "vmnix-x86", ProductLineID: "embeddedEsx", APIType: "HostAgent",
			LicenseProductName: "VMware ESX Server", LicenseProductVersion: "8.0",
		},
		License:      labLicense{Edition: "licensed", EditionKey: "esx.standard.cpuPackage", Name: "vSphere 8 Standard", CostUnit: "cpuPackage"},
		LockdownMode: "lockdownDisabled",
		Host:         labHost{Name: "esx1", UUID: "4c4c4544-0035-4810-8054-b4c04f443532", CPUMhz: 2400, CPUCores: 8, MemoryBytes: 32 << 30},
		Datastores: []labDatastore{{
			Name: "ds 1", UUID: dsUUID, URL: "/vmfs/volumes/" + dsUUID + "/", LocalPath: local, Type: "VMFS-6",
			CapacityBytes: 1 << 40, FreeBytes: 1 << 39, Accessible: true,
		}},
		Networks: []labNetwork{{"VM Network"}},
		Vms: []labMachine{{
			ID: 5, Name: "sql/50%", VmxPath: "[ds 1] sql/sql.vmx", VmxAbsolutePath: "/vmfs/volumes/" + dsUUID + "/sql/sql.vmx",
			Valid: true, Datastore: "ds 1", PowerState: "poweredOn", BootTimeMs: pointer(int64(1_700_000_000_000)),
			Tools:   labTools{"toolsOk", "guestToolsRunning", "guestToolsCurrent"},
			GuestID: "ubuntu64Guest", GuestFullName: "Ubuntu Linux (64-bit)", Annotation: "two\nlines", HardwareVersion: "vmx-19",
			MemoryMib: 2048, Cpus: 2, Firmware: "efi", BiosUUID: pointer("564d8a1e-3c55-ba10-9a0f-112233445566"),
			InstanceUUID: pointer("52aa0000-1111-2222-3333-444455556666"), ChangeTrackingEnabled: true, ChangeTrackingSupported: true,
			Config:      map[string]string{"ctkEnabled": "TRUE", "disk.EnableUUID": "TRUE", "displayName": "sql/50%"},
			Controllers: []labController{{1000, "scsi", 0, "pvscsi", "none"}, {200, "ide", 0, "", ""}, {15000, "sata", 0, "", ""}, {31000, "nvme", 0, "", ""}},
			Disks:       []labDisk{disk},
			Nics:        []labNic{{4000, "Network adapter 1", "vmxnet3", "VM Network", "generated", pointer("00:0c:29:aa:bb:cc"), true}},
			Layout: []labLayoutFile{
				{0, "[ds 1] sql/sql.vmx", "config", 2931, 2931, true},
				{1, "[ds 1] sql/sql.vmdk", "diskDescriptor", 523, 523, true},
				{2, "[ds 1] sql/sql-flat.vmdk", "diskExtent", 16 << 20, 4 << 20, true},
			},
		}},
		Services:   []labService{{"TSM", false, "off"}, {"TSM-SSH", false, "off"}},
		BootTimeMs: 1_690_000_000_000,
		Switches:   labSwitches{HTTPS: "on", FolderRange: "works", FolderWrites: "allow"},
	}
	s.open = func(path, _ string) openAnswer {
		local := filepath.Join(local, strings.TrimPrefix(path, "/vmfs/volumes/"+dsUUID))
		info, err := os.Stat(local)
		if err != nil {
			return openAnswer{NotFound: true}
		}
		return openAnswer{Ok: true, SizeBytes: info.Size(), File: local}
	}
	return s
}

// change edits the state as the daemon would, with a new generation.
func (s *standIn) change(edit func(*labState)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	edit(&s.state)
	s.state.Generation++
}

func (s *standIn) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.requests...)
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	encoded, _ := json.Marshal(s.answer(r, body))
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(encoded)
}

// answer decides what the daemon says. The caller holds the lock.
func (s *standIn) answer(r *http.Request, body []byte) interface{} {
	if r.URL.Path == "/state" {
		return s.state
	}
	if r.URL.Path == "/switches" {
		return s.state.Switches
	}
	s.requests = append(s.requests, r.Method+" "+r.URL.RequestURI())
	s.bodies = append(s.bodies, string(body))
	switch {
	case r.URL.Path == "/login":
		var in struct{ User, Password string }
		_ = json.Unmarshal(body, &in)
		if s.state.LockdownMode != "lockdownDisabled" {
			return loginAnswer{NoPermission: true}
		}
		return loginAnswer{Ok: in.User == testUser && in.Password == testPassword, Refused: true}
	case r.URL.Path == "/open":
		return s.open(r.URL.Query().Get("path"), r.URL.Query().Get("kind"))
	case r.URL.Path == "/register":
		return map[string]int64{"id": 5}
	case strings.HasSuffix(r.URL.Path, "/changed-areas"):
		var in changedAreasRequest
		_ = json.Unmarshal(body, &in)
		areas, fault := s.areas(in)
		if fault != nil {
			return map[string]interface{}{"fault": fault}
		}
		return areas
	case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/snapshots"):
		var in createSnapshotRequest
		_ = json.Unmarshal(body, &in)
		return s.task("VirtualMachine.createSnapshot", func() *int64 {
			vm := &s.state.Vms[0]
			frozen := append([]labDisk{}, vm.Disks...)
			frozen[0].ChangeID = pointer("52 2d 7b 8f ac 61 51 cc-77 4c 7b ec 91 50 bb 7b/1")
			vm.Snapshots = &labSnapshots{CurrentID: pointer(int32(3)), Roots: []labSnapshot{{
				ID: 3, Name: in.Name, Description: in.Description, CreateTimeMs: 1_700_000_100_000, State: "poweredOff",
				Quiesced: in.Quiesce, Disks: frozen, Config: vm.Config,
			}}}
			live := append([]labDisk{}, vm.Disks...)
			live[0].Backing = "seSparse"
			live[0].Chain = append([]labLayer{{"[ds 1] sql/sql-000001.vmdk", "/vmfs/volumes/" + dsUUID + "/sql/sql-000001.vmdk"}}, live[0].Chain...)
			vm.Disks = live
			return pointer(int64(3))
		})
	case r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "/snapshots"):
		return s.task("VirtualMachineSnapshot.remove", func() *int64 {
			vm := &s.state.Vms[0]
			vm.Disks = append([]labDisk{}, vm.Disks...)
			vm.Disks[0].Backing = "flat"
			vm.Disks[0].Chain = vm.Disks[0].Chain[1:]
			vm.Snapshots = nil
			return nil
		})
	case r.Method == http.MethodDelete && strings.HasPrefix(r.URL.Path, "/vms/"):
		s.state.Vms = nil
		s.state.Generation++
		return struct{}{}
	case strings.HasSuffix(r.URL.Path, "/power"), strings.HasSuffix(r.URL.Path, "/reconfigure"):
		return s.task("VirtualMachine.reconfigure", func() *int64 { return nil })
	}
	return struct{}{}
}

// task makes a task that ends a little later. The caller holds the lock.
func (s *standIn) task(description string, work func() *int64) taskAnswer {
	now := time.Now().UnixMilli()
	id := "haTask-5-vim." + description + "-" + strconv.Itoa(1000+len(s.state.Tasks))
	s.state.Tasks = append(s.state.Tasks, labTask{
		ID: id, DescriptionID: description, Entity: labEntity{"VirtualMachine", "5", "sql/50%"}, State: "running",
		QueuedAtMs: now, StartedAtMs: &now,
	})
	s.state.Generation++
	index := len(s.state.Tasks) - 1
	time.AfterFunc(s.taskTime, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		tasks := append([]labTask{}, s.state.Tasks...)
		tasks[index].Result = work()
		tasks[index].State, tasks[index].EndedAtMs = "success", pointer(time.Now().UnixMilli())
		s.state.Tasks = tasks
		s.state.Generation++
	})
	return taskAnswer{Task: id}
}

// front is a running lab-soap before a stand-in.
type front struct {
	*standIn
	host   *host
	server *httptest.Server
}

func startFront(t *testing.T, o options) *front {
	t.Helper()
	s := newStandIn(t)
	socket := filepath.Join(t.TempDir(), "hostd.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	backend := &http.Server{Handler: s}
	go func() { _ = backend.Serve(listener) }()
	t.Cleanup(func() { _ = backend.Close() })

	if o.sessionIdle == 0 {
		o.sessionIdle = 30 * time.Minute
	}
	o.logger = log.New(testWriter{t}, "", 0)
	h, err := newHost(newDaemon(socket), o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	return &front{s, h, server}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

func (f *front) httpClient() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
}

// post sends raw SOAP and gives status, body and response headers.
func (f *front) post(t *testing.T, path, inner, cookies string) (int, string, http.Header) {
	t.Helper()
	envelope := `<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"` +
		` xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema"><soapenv:Body>` +
		inner + `</soapenv:Body></soapenv:Envelope>`
	request, err := http.NewRequest(http.MethodPost, f.server.URL+path, strings.NewReader(envelope))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "text/xml; charset=utf-8")
	request.Header.Set("SOAPAction", `"urn:vim25/6.5"`)
	if cookies != "" {
		request.Header.Set("Cookie", cookies)
	}
	response, err := f.httpClient().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body), response.Header
}

// rawLogin gives the cookie as the server wrote it.
func (f *front) rawLogin(t *testing.T) string {
	t.Helper()
	status, body, header := f.post(t, "/sdk", fmt.Sprintf(
		`<Login xmlns="urn:vim25"><_this type="SessionManager">ha-sessionmgr</_this><userName>%s</userName><password>%s</password></Login>`,
		testUser, testPassword), "")
	if status != http.StatusOK {
		t.Fatalf("login: %d %s", status, body)
	}
	cookie, _, _ := strings.Cut(header.Get("Set-Cookie"), ";")
	return cookie
}
