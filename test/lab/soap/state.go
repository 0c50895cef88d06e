package main

import (
	"strings"
	"time"
)

// The daemon's answers, field for field as in test/lab/hostd/protocol.ts.

type labState struct {
	Generation   int64          `json:"generation"`
	About        labAbout       `json:"about"`
	License      labLicense     `json:"license"`
	LockdownMode string         `json:"lockdownMode"`
	Host         labHost        `json:"host"`
	Datastores   []labDatastore `json:"datastores"`
	Networks     []labNetwork   `json:"networks"`
	Vms          []labMachine   `json:"vms"`
	Tasks        []labTask      `json:"tasks"`
	Services     []labService   `json:"services"`
	Switches     labSwitches    `json:"switches"`
	BootTimeMs   int64          `json:"bootTimeMs"`
}

type labAbout struct {
	Name                  string `json:"name"`
	FullName              string `json:"fullName"`
	Vendor                string `json:"vendor"`
	Version               string `json:"version"`
	Build                 string `json:"build"`
	APIVersion            string `json:"apiVersion"`
	OsType                string `json:"osType"`
	ProductLineID         string `json:"productLineId"`
	APIType               string `json:"apiType"`
	LicenseProductName    string `json:"licenseProductName"`
	LicenseProductVersion string `json:"licenseProductVersion"`
}

type labLicense struct {
	Edition    string `json:"edition"`
	EditionKey string `json:"editionKey"`
	Name       string `json:"name"`
	LicenseKey string `json:"licenseKey"`
	CostUnit   string `json:"costUnit"`
}

type labHost struct {
	Name        string `json:"name"`
	UUID        string `json:"uuid"`
	CPUMhz      int32  `json:"cpuMhz"`
	CPUCores    int16  `json:"cpuCores"`
	MemoryBytes int64  `json:"memoryBytes"`
}

type labDatastore struct {
	Name          string  `json:"name"`
	UUID          string  `json:"uuid"`
	URL           string  `json:"url"`
	LocalPath     string  `json:"localPath"`
	Type          string  `json:"type"`
	CapacityBytes int64   `json:"capacityBytes"`
	FreeBytes     int64   `json:"freeBytes"`
	Accessible    bool    `json:"accessible"`
	Nfs           *labNfs `json:"nfs"`
}

type labNfs struct {
	Host     string `json:"host"`
	Share    string `json:"share"`
	ReadOnly bool   `json:"readOnly"`
}

type labNetwork struct {
	Name string `json:"name"`
}

type labService struct {
	Key     string `json:"key"`
	Running bool   `json:"running"`
	Policy  string `json:"policy"`
}

type labMachine struct {
	ID                      int64             `json:"id"`
	Name                    string            `json:"name"`
	VmxPath                 string            `json:"vmxPath"`
	VmxAbsolutePath         string            `json:"vmxAbsolutePath"`
	Valid                   bool              `json:"valid"`
	Datastore               string            `json:"datastore"`
	PowerState              string            `json:"powerState"`
	BootTimeMs              *int64            `json:"bootTimeMs"`
	Tools                   labTools          `json:"tools"`
	GuestID                 string            `json:"guestId"`
	GuestFullName           string            `json:"guestFullName"`
	Annotation              string            `json:"annotation"`
	HardwareVersion         string            `json:"hardwareVersion"`
	MemoryMib               int32             `json:"memoryMib"`
	Cpus                    int32             `json:"cpus"`
	Firmware                string            `json:"firmware"`
	BiosUUID                *string           `json:"biosUuid"`
	InstanceUUID            *string           `json:"instanceUuid"`
	ChangeTrackingEnabled   bool              `json:"changeTrackingEnabled"`
	ChangeTrackingSupported bool              `json:"changeTrackingSupported"`
	Config                  map[string]string `json:"config"`
	Controllers             []labController   `json:"controllers"`
	Disks                   []labDisk         `json:"disks"`
	Nics                    []labNic          `json:"nics"`
	Snapshots               *labSnapshots     `json:"snapshots"`
	ConsolidationNeeded     bool              `json:"consolidationNeeded"`
	Question                *labQuestion      `json:"question"`
	Layout                  []labLayoutFile   `json:"layout"`
}

type labTools struct {
	Status         string `json:"status"`
	RunningStatus  string `json:"runningStatus"`
	VersionStatus2 string `json:"versionStatus2"`
}

type labController struct {
	Key        int32  `json:"key"`
	Kind       string `json:"kind"`
	Bus        int32  `json:"bus"`
	VirtualDev string `json:"virtualDev"`
	SharedBus  string `json:"sharedBus"`
}

type labDisk struct {
	Key             int32      `json:"key"`
	Node            string     `json:"node"`
	ControllerKey   int32      `json:"controllerKey"`
	Unit            int32      `json:"unit"`
	Label           string     `json:"label"`
	CapacityBytes   int64      `json:"capacityBytes"`
	Backing         string     `json:"backing"`
	DiskMode        string     `json:"diskMode"`
	Sharing         string     `json:"sharing"`
	ThinProvisioned bool       `json:"thinProvisioned"`
	EagerlyScrub    bool       `json:"eagerlyScrub"`
	Chain           []labLayer `json:"chain"`
	UUID            *string    `json:"uuid"`
	ContentID       string     `json:"contentId"`
	ChangeID        *string    `json:"changeId"`
}

type labLayer struct {
	FileName     string `json:"fileName"`
	AbsolutePath string `json:"absolutePath"`
}

type labNic struct {
	Key         int32   `json:"key"`
	Label       string  `json:"label"`
	VirtualDev  string  `json:"virtualDev"`
	NetworkName string  `json:"networkName"`
	AddressType string  `json:"addressType"`
	MacAddress  *string `json:"macAddress"`
	Connected   bool    `json:"connected"`
}

type labSnapshots struct {
	CurrentID *int32        `json:"currentId"`
	Roots     []labSnapshot `json:"roots"`
}

type labSnapshot struct {
	ID             int32             `json:"id"`
	Name           string            `json:"name"`
	Description    string            `json:"description"`
	CreateTimeMs   int64             `json:"createTimeMs"`
	State          string            `json:"state"`
	Quiesced       bool              `json:"quiesced"`
	BackupManifest *string           `json:"backupManifest"`
	Disks          []labDisk         `json:"disks"`
	Config         map[string]string `json:"config"`
	Children       []labSnapshot     `json:"children"`
}

type labQuestion struct {
	ID           string      `json:"id"`
	MessageID    string      `json:"messageId"`
	Text         string      `json:"text"`
	Choices      []labChoice `json:"choices"`
	DefaultIndex int32       `json:"defaultIndex"`
}

type labChoice struct {
	Key     string `json:"key"`
	Label   string `json:"label"`
	Summary string `json:"summary"`
}

type labLayoutFile struct {
	Key             int32  `json:"key"`
	Name            string `json:"name"`
	Type            string `json:"type"`
	SizeBytes       int64  `json:"sizeBytes"`
	UniqueSizeBytes int64  `json:"uniqueSizeBytes"`
	Accessible      bool   `json:"accessible"`
}

type labTask struct {
	ID            string    `json:"id"`
	DescriptionID string    `json:"descriptionId"`
	Entity        labEntity `json:"entity"`
	State         string    `json:"state"`
	Progress      *int32    `json:"progress"`
	QueuedAtMs    int64     `json:"queuedAtMs"`
	StartedAtMs   *int64    `json:"startedAtMs"`
	EndedAtMs     *int64    `json:"endedAtMs"`
	Result        *int64    `json:"result"`
	Fault         *labFault `json:"fault"`
}

type labEntity struct {
	Type  string `json:"type"`
	Value string `json:"value"`
	Name  string `json:"name"`
}

type labFault struct {
	Type     string            `json:"type"`
	Message  string            `json:"message"`
	Fields   map[string]string `json:"fields"`
	Messages []struct {
		Key     string `json:"key"`
		Message string `json:"message"`
	} `json:"messages"`
}

// labSwitches holds those of the switches that this front obeys.
type labSwitches struct {
	HTTPS                   string `json:"https"`
	HTTPSCertificateChanged bool   `json:"httpsCertificateChanged"`
	SoapForgetSessions      int64  `json:"soapForgetSessions"`
	HostClientCookieBypass  bool   `json:"hostClientCookieBypass"`
	SoapPageSizeMax         *int32 `json:"soapPageSizeMax"`
	SoapDelayMs             int64  `json:"soapDelayMs"`
	TaskQueuedMs            int64  `json:"taskQueuedMs"`
	FolderRange             string `json:"folderRange"`
	FolderBytesPerSecond    *int64 `json:"folderBytesPerSecond"`
	FolderCutAfterBytes     *int64 `json:"folderCutAfterBytes"`
	FolderWrites            string `json:"folderWrites"`
}

func (s *labState) machine(id int64) *labMachine {
	for i := range s.Vms {
		if s.Vms[i].ID == id {
			return &s.Vms[i]
		}
	}
	return nil
}

func (s *labState) datastore(name string) *labDatastore {
	for i := range s.Datastores {
		if s.Datastores[i].Name == name {
			return &s.Datastores[i]
		}
	}
	return nil
}

// datastoreOf finds the datastore of a path like `[ds1] folder/file`. Names may hold brackets themselves.
func (s *labState) datastoreOf(path string) *labDatastore {
	var found *labDatastore
	for i := range s.Datastores {
		d := &s.Datastores[i]
		if strings.HasPrefix(path, "["+d.Name+"]") && (found == nil || len(d.Name) > len(found.Name)) {
			found = d
		}
	}
	return found
}

func timeOfMs(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func timePointer(ms *int64) *time.Time {
	if ms == nil {
		return nil
	}
	t := timeOfMs(*ms)
	return &t
}

func textOf(value *string) string {
	if value == nil {
		return ""
	}
	return *value
}

func upperFirst(name string) string {
	if name == "" {
		return name
	}
	return strings.ToUpper(name[:1]) + name[1:]
}
