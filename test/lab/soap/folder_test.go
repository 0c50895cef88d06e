package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"math/rand"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const flatQuery = "?dcPath=ha-datacenter&dsName=ds%201"

// writeTestFile puts a file into the stand-in's datastore and gives its content.
func (f *front) writeTestFile(t *testing.T, name string, size int) []byte {
	t.Helper()
	content := make([]byte, size)
	rand.New(rand.NewSource(int64(size))).Read(content)
	if err := os.WriteFile(filepath.Join(f.state.Datastores[0].LocalPath, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return content
}

// get fetches by Basic login unless a header says otherwise.
func (f *front) get(t *testing.T, path string, header map[string]string) (*http.Response, []byte, error) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, f.server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := header["Cookie"]; !ok {
		request.SetBasicAuth(testUser, testPassword)
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := f.httpClient().Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, body, err
}

func TestServesRangesOfFiles(t *testing.T) {
	f := startFront(t, options{})
	content := f.writeTestFile(t, "sql/sql-flat.vmdk", 3<<20+17)
	path := "/folder/sql/sql-flat.vmdk" + flatQuery

	whole, body, err := f.get(t, path, nil)
	if err != nil || whole.StatusCode != 200 || whole.ContentLength != int64(len(content)) || !bytes.Equal(body, content) {
		t.Fatalf("whole: %v %v %d bytes", err, whole.Status, len(body))
	}
	for header, want := range map[string][2]int{
		"bytes=0-0":             {0, 1},
		"bytes=1048576-2097151": {1 << 20, 2 << 20},
		"bytes=3145728-":        {3 << 20, len(content)},
		"bytes=3145728-9999999": {3 << 20, len(content)},
		"bytes=-17":             {3 << 20, len(content)},
	} {
		response, body, err := f.get(t, path, map[string]string{"Range": header})
		if err != nil || response.StatusCode != 206 || !bytes.Equal(body, content[want[0]:want[1]]) {
			t.Errorf("%s: %v %v %d bytes", header, err, response.Status, len(body))
			continue
		}
		if got := response.Header.Get("Content-Range"); !strings.HasPrefix(got, "bytes ") || !strings.HasSuffix(got, "/3145745") {
			t.Errorf("%s: content-range %q", header, got)
		}
	}
	response, _, err := f.get(t, path, map[string]string{"Range": "bytes=3145745-"})
	if err != nil || response.StatusCode != 416 || response.Header.Get("Content-Range") != "bytes */3145745" {
		t.Errorf("past the end: %v %v %q", err, response.Status, response.Header.Get("Content-Range"))
	}

	f.change(func(s *labState) { s.Switches.FolderRange = "ignored" })
	ignored, body, err := f.get(t, path, map[string]string{"Range": "bytes=5-9"})
	if err != nil || ignored.StatusCode != 200 || !bytes.Equal(body, content) {
		t.Errorf("range ignored: %v %v %d bytes", err, ignored.Status, len(body))
	}
}

func TestGivesOutOnlyTheDescriptorOfADisk(t *testing.T) {
	f := startFront(t, options{})
	descriptor := f.writeTestFile(t, "sql/sql.vmdk", 523)
	f.writeTestFile(t, "sql/sql-flat.vmdk", 1<<20)

	response, body, err := f.get(t, "/folder/sql/sql.vmdk"+flatQuery, nil)
	if err != nil || response.StatusCode != 200 || !bytes.Equal(body, descriptor) {
		t.Fatalf("%v %v %d bytes", err, response.Status, len(body))
	}
	opens := f.seen()
	if last := opens[len(opens)-1]; !strings.Contains(last, "kind=descriptor") {
		t.Errorf("the daemon was asked %q", last)
	}
	for name, want := range map[string]bool{"a.vmdk": true, "a-000001.vmdk": true, "a-flat.vmdk": false, "a-000001-sesparse.vmdk": false, "a-ctk.vmdk": false, "a.vmx": false} {
		if isDescriptorName(name) != want {
			t.Errorf("isDescriptorName(%q) is not %t", name, want)
		}
	}
}

func TestRefusesLockedMissingAndForbiddenFiles(t *testing.T) {
	f := startFront(t, options{})
	f.writeTestFile(t, "sql/sql-flat.vmdk", 100)
	f.open = func(path, _ string) openAnswer {
		if strings.HasSuffix(path, "-flat.vmdk") {
			return openAnswer{Busy: true, File: path}
		}
		return openAnswer{NotFound: true}
	}

	locked, body, _ := f.get(t, "/folder/sql/sql-flat.vmdk"+flatQuery, nil)
	want := "Failed to open file /vmfs/volumes/" + dsUUID + "/sql/sql-flat.vmdk: Device or resource busy"
	if locked.StatusCode != 500 || !strings.HasPrefix(locked.Header.Get("Content-Type"), "text/html") || !strings.Contains(string(body), want) {
		t.Errorf("locked: %v %s", locked.Status, body)
	}
	for path, status := range map[string]int{
		"/folder/sql/none.vmx" + flatQuery:                                        404,
		"/folder/sql/sql.vmx?dcPath=ha-datacenter&dsName=ds%202":                  404,
		"/folder/sql/sql.vmx?dcPath=ha-datacenter&dsName=ds+1":                    404, // '+' is no blank
		"/folder/sql/sql.vmx?dcPath=other&dsName=ds%201":                          404,
		"/folder/%2e%2e/%2e%2e/etc/passwd" + flatQuery:                            400,
		"/folder/sql/..%2f..%2f..%2fetc%2fpasswd" + flatQuery:                     400,
		"/folder/sql/sql.vmx?dcPath=ha-datacenter&dsName=ds%201&x=%zz":            400,
		"/folder/sql/none%20with%20%5Bbrackets%5D%20and%20100%25.vmx" + flatQuery: 404,
	} {
		if response, _, err := f.get(t, path, nil); err != nil || response.StatusCode != status {
			t.Errorf("%s: %v %v, want %d", path, err, response, status)
		}
	}

	noLogin, _, _ := f.get(t, "/folder", map[string]string{"Cookie": "none=1"})
	wrong, _, _ := f.get(t, "/folder", map[string]string{"Authorization": "Basic cm9vdDp3cm9uZw=="})
	if noLogin.StatusCode != 401 || wrong.StatusCode != 401 || noLogin.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("logins: %v %v", noLogin.Status, wrong.Status)
	}
}

func TestAdmitsSessionsAndTicketsToFiles(t *testing.T) {
	f := startFront(t, options{})
	f.writeTestFile(t, "sql/sql.vmx", 50)
	path := "/folder/sql/sql.vmx" + flatQuery
	cookie := f.rawLogin(t)

	if response, _, err := f.get(t, path, map[string]string{"Cookie": cookie}); err != nil || response.StatusCode != 200 {
		t.Errorf("session: %v %v", err, response)
	}
	_, answer, _ := f.post(t, "/sdk", `<AcquireGenericServiceTicket xmlns="urn:vim25"><_this type="SessionManager">ha-sessionmgr</_this><spec xsi:type="SessionManagerHttpServiceRequestSpec"><method>httpGet</method><url>`+strings.ReplaceAll(path, "&", "&amp;")+`</url></spec></AcquireGenericServiceTicket>`, cookie)
	_, after, _ := strings.Cut(answer, "<id>")
	ticket, _, found := strings.Cut(after, "</id>")
	if !found {
		t.Fatalf("no ticket in %s", answer)
	}
	for attempt, status := range []int{200, 401} {
		if response, _, err := f.get(t, path, map[string]string{"Cookie": "vmware_cgi_ticket=" + ticket}); err != nil || response.StatusCode != status {
			t.Errorf("use %d of a ticket: %v %v", attempt+1, err, response)
		}
	}
}

func TestListsDatacentersDatastoresAndFolders(t *testing.T) {
	f := startFront(t, options{})
	f.writeTestFile(t, "sql/a b#[1].vmx", 5)
	if err := os.Mkdir(filepath.Join(f.state.Datastores[0].LocalPath, "sql", "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, links := range map[string][]string{
		"/folder":                          {`href="/folder?dcPath=ha-datacenter"`},
		"/folder?dcPath=ha-datacenter":     {`href="/folder?dcPath=ha-datacenter&amp;dsName=ds%201"`},
		"/folder" + flatQuery:              {`href="/folder/sql/?dcPath=ha-datacenter&amp;dsName=ds%201"`},
		"/folder/sql" + flatQuery:          {`href="/folder/sql/a%20b%23%5B1%5D.vmx?`, `href="/folder/sql/sub/?`},
		"/folder/sql/?dsName=%64%73%20%31": {`a b#[1].vmx</a>`},
	} {
		response, body, err := f.get(t, path, nil)
		if err != nil || response.StatusCode != 200 {
			t.Errorf("%s: %v %v", path, err, response)
			continue
		}
		for _, link := range links {
			if !strings.Contains(string(body), link) {
				t.Errorf("%s lacks %s: %s", path, link, body)
			}
		}
	}
	if response, body, err := f.get(t, "/folder/sql/a%20b%23%5B1%5D.vmx"+flatQuery, nil); err != nil || response.StatusCode != 200 || len(body) != 5 {
		t.Errorf("the listed file: %v %v", err, response)
	}
}

func TestCutsAndSlowsBodies(t *testing.T) {
	f := startFront(t, options{})
	content := f.writeTestFile(t, "sql/sql-flat.vmdk", 1<<20)
	path := "/folder/sql/sql-flat.vmdk" + flatQuery

	f.change(func(s *labState) { s.Switches.FolderCutAfterBytes = pointer(int64(300_000)) })
	response, body, err := f.get(t, path, nil)
	if err != io.ErrUnexpectedEOF || response.ContentLength != 1<<20 || !bytes.Equal(body, content[:300_000]) {
		t.Errorf("cut: %v, %d bytes", err, len(body))
	}
	f.change(func(s *labState) {
		s.Switches.FolderCutAfterBytes, s.Switches.FolderBytesPerSecond = nil, pointer(int64(2<<20))
	})
	started := time.Now()
	_, body, err = f.get(t, path, nil)
	if took := time.Since(started); err != nil || !bytes.Equal(body, content) || took < 400*time.Millisecond || took > 3*time.Second {
		t.Errorf("slow: %v after %s", err, took)
	}
}

func TestWritesFilesWhereItMay(t *testing.T) {
	f := startFront(t, options{})
	path := "/folder/sql/new.vmx" + flatQuery
	send := func(method, path, body string) int {
		request, _ := http.NewRequest(method, f.server.URL+path, strings.NewReader(body))
		request.SetBasicAuth(testUser, testPassword)
		response, err := f.httpClient().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}

	if status := send(http.MethodPut, path, "first"); status != 201 {
		t.Errorf("create: %d", status)
	}
	if status := send(http.MethodPut, path, "second"); status != 200 {
		t.Errorf("overwrite: %d", status)
	}
	if _, body, _ := f.get(t, path, nil); string(body) != "second" {
		t.Errorf("read back %q", body)
	}
	if status := send(http.MethodPut, "/folder/none/new.vmx"+flatQuery, "x"); status != 404 {
		t.Errorf("no folder: %d", status)
	}
	f.change(func(s *labState) { s.License.Edition, s.Switches.FolderWrites = "free", "refuse" })
	if put, remove := send(http.MethodPut, path, "x"), send(http.MethodDelete, path, ""); put != 403 || remove != 403 {
		t.Errorf("free: %d %d", put, remove)
	}
	f.change(func(s *labState) { s.Switches.FolderWrites = "allow" })
	if first, second := send(http.MethodDelete, path, ""), send(http.MethodDelete, path, ""); first != 204 || second != 404 {
		t.Errorf("delete: %d %d", first, second)
	}
}

func TestDoorShutsStallsAndChangesItsCertificate(t *testing.T) {
	f := startFront(t, options{})
	first, err := loadOrMakeCertificate("", "")
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	second, err := loadOrMakeCertificate(filepath.Join(directory, "c.pem"), filepath.Join(directory, "k.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := loadOrMakeCertificate(filepath.Join(directory, "c.pem"), filepath.Join(directory, "k.pem")); err != nil || certificateSha256(again) != certificateSha256(second) {
		t.Fatalf("a kept certificate changed: %v", err)
	}
	d, err := openDoor("127.0.0.1:0", f.host, first, second)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	shown := func() (string, error) {
		client := f.httpClient()
		client.Timeout = 300 * time.Millisecond
		response, err := client.Get("https://" + d.address + "/")
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		return certificateSha256(tls.Certificate{Certificate: [][]byte{response.TLS.PeerCertificates[0].Raw}}), nil
	}
	set := func(s labSwitches) {
		t.Helper()
		if err := d.set(s); err != nil {
			t.Fatal(err)
		}
	}

	if got, err := shown(); err != nil || got != certificateSha256(first) {
		t.Fatalf("at first: %v", err)
	}
	set(labSwitches{HTTPS: "on", HTTPSCertificateChanged: true})
	if got, err := shown(); err != nil || got != certificateSha256(second) {
		t.Fatalf("changed: %v", err)
	}
	set(labSwitches{HTTPS: "off"})
	if _, err := shown(); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("off: %v", err)
	}
	set(labSwitches{HTTPS: "stall"})
	if _, err := shown(); err == nil || strings.Contains(err.Error(), "refused") {
		t.Fatalf("stalled: %v", err)
	}
	set(labSwitches{HTTPS: "on"})
	if got, err := shown(); err != nil || got != certificateSha256(first) {
		t.Fatalf("on again: %v", err)
	}
}
