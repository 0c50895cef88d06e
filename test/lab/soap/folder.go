package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
)

// The datastore files under /folder/<path>?dcPath=ha-datacenter&dsName=<name>.

const datacenterPath = "ha-datacenter"

// copyBufferBytes is large enough that neither the disk nor TLS waits for small pieces.
const copyBufferBytes = 1 << 20

// fileView is what a file request needs to know. A reader asks for thousands of ranges: the whole state,
// which costs the daemon a look at every file, is fetched only for a write, or when the datastore is not
// among those known (the door keeps what is known from growing old).
type fileView struct {
	datastores []labDatastore
	edition    string
	switches   labSwitches
}

func (h *host) fileView(r *http.Request, datastore string) (*fileView, error) {
	ctx := r.Context()
	switches, err := h.daemon.switches(ctx)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	known := h.inventory.state
	h.forget(switches)
	h.mu.Unlock()
	isRead := r.Method == http.MethodGet || r.Method == http.MethodHead
	if !isRead || known == nil || known.datastore(datastore) == nil || !known.datastore(datastore).Accessible {
		if known, err = h.refresh(ctx); err != nil {
			return nil, err
		}
	}
	return &fileView{known.Datastores, known.License.Edition, switches}, nil
}

func (h *host) serveFolder(w http.ResponseWriter, r *http.Request) {
	query, err := strictQuery(r.URL.RawQuery)
	if err != nil {
		h.folderError(w, http.StatusBadRequest, "Bad request: "+err.Error())
		return
	}
	// The decoded path: the server has refused malformed escapes already, and '+' is itself.
	name := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/folder"), "/")
	if hasParentElement(name) {
		h.folderError(w, http.StatusBadRequest, "Bad request: path leaves the datastore")
		return
	}
	view, err := h.fileView(r, query["dsName"])
	if err != nil {
		h.unavailable(w, err)
		return
	}
	if !h.admitFile(w, r) {
		return
	}

	if query["dsName"] == "" {
		h.serveTop(w, view, name, query["dcPath"])
		return
	}
	if dc := query["dcPath"]; dc != "" && strings.Trim(dc, "/") != datacenterPath {
		h.folderError(w, http.StatusNotFound, "Not Found: datacenter "+dc)
		return
	}
	datastore := (&labState{Datastores: view.datastores}).datastore(query["dsName"])
	if datastore == nil || !datastore.Accessible {
		h.folderError(w, http.StatusNotFound, "Not Found: datastore "+query["dsName"])
		return
	}

	switch r.Method {
	case http.MethodGet, http.MethodHead:
		h.serveFile(w, r, view, datastore, name)
	case http.MethodPut, http.MethodDelete:
		if view.edition == "free" && view.switches.FolderWrites == "refuse" {
			h.folderError(w, http.StatusForbidden, "Forbidden: "+restrictedVersion().text)
			return
		}
		h.writeFile(w, r, datastore, name)
	default:
		w.Header().Set("Allow", "GET, HEAD, PUT, DELETE")
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

// admitFile checks the three ways in: the SOAP session, a ticket for this one request, or Basic.
func (h *host) admitFile(w http.ResponseWriter, r *http.Request) bool {
	if _, ok := h.sessions.touch(r); ok {
		return true
	}
	if cookie, err := r.Cookie(ticketCookie); err == nil && h.sessions.useTicket(cookie.Value) {
		return true
	}
	if user, password, ok := r.BasicAuth(); ok {
		answer, err := h.daemon.login(r.Context(), user, password)
		if err != nil {
			h.unavailable(w, err)
			return false
		}
		if answer.Ok {
			return true
		}
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
	h.folderError(w, http.StatusUnauthorized, "Unauthorized")
	return false
}

// strictQuery decodes a query in which '+' means itself, as hosts read it.
func strictQuery(raw string) (map[string]string, error) {
	values := map[string]string{}
	for _, pair := range strings.Split(raw, "&") {
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		decodedKey, err := url.PathUnescape(key)
		if err != nil {
			return nil, err
		}
		decoded, err := url.PathUnescape(value)
		if err != nil {
			return nil, err
		}
		values[decodedKey] = decoded
	}
	return values, nil
}

func hasParentElement(name string) bool {
	for _, element := range strings.Split(name, "/") {
		if element == ".." {
			return true
		}
	}
	return strings.ContainsRune(name, 0)
}

func (h *host) folderError(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<html><head><title>Error</title></head><body><h1>Error</h1><p>%s</p></body></html>\n", html.EscapeString(text))
}

// serveTop lists datacenters, or the datastores of the one.
func (h *host) serveTop(w http.ResponseWriter, view *fileView, name, dc string) {
	if name != "" {
		h.folderError(w, http.StatusNotFound, "Not Found: no datastore named")
		return
	}
	if dc == "" {
		writeIndex(w, "Index on ESX Server", []indexEntry{{label: datacenterPath, href: "/folder?dcPath=" + datacenterPath}})
		return
	}
	if strings.Trim(dc, "/") != datacenterPath {
		h.folderError(w, http.StatusNotFound, "Not Found: datacenter "+dc)
		return
	}
	var entries []indexEntry
	for _, d := range view.datastores {
		entries = append(entries, indexEntry{label: d.Name, href: "/folder?dcPath=" + datacenterPath + "&dsName=" + url.PathEscape(d.Name)})
	}
	writeIndex(w, "Datastores of datacenter "+datacenterPath, entries)
}

type indexEntry struct {
	label    string
	href     string
	modified time.Time
	size     int64
	isFile   bool
}

func writeIndex(w http.ResponseWriter, title string, entries []indexEntry) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<html><head><meta http-equiv=\"Content-Type\" content=\"text/html; charset=utf-8\"><title>%s</title></head>\n", html.EscapeString(title))
	fmt.Fprintf(w, "<body><h1>%s</h1>\n<table>\n<tr><th>Name</th><th>Last modified</th><th>Size</th></tr>\n", html.EscapeString(title))
	for _, e := range entries {
		modified, size := "", " - "
		if !e.modified.IsZero() {
			modified = e.modified.UTC().Format("02-Jan-2006 15:04")
		}
		if e.isFile {
			size = strconv.FormatInt(e.size, 10)
		}
		fmt.Fprintf(w, "<tr><td><a href=\"%s\">%s</a></td><td align=\"right\">%s</td><td align=\"right\">%s</td></tr>\n",
			html.EscapeString(e.href), html.EscapeString(e.label), modified, size)
	}
	_, _ = io.WriteString(w, "</table></body></html>\n")
}

// hostPath is a datastore file's path on the host.
func hostPath(d *labDatastore, name string) string {
	return path.Join("/vmfs/volumes", d.UUID, name)
}

func (h *host) serveFile(w http.ResponseWriter, r *http.Request, view *fileView, d *labDatastore, name string) {
	if info, err := os.Stat(filepath.Join(d.LocalPath, filepath.FromSlash(name))); err == nil && info.IsDir() {
		h.serveDirectory(w, d, name)
		return
	}
	kind := "raw"
	if isDescriptorName(name) {
		kind = "descriptor"
	}
	answer, err := h.daemon.open(r.Context(), hostPath(d, name), kind)
	switch {
	case err != nil:
		h.unavailable(w, err)
	case answer.NotFound:
		h.folderError(w, http.StatusNotFound, "Not Found: ["+d.Name+"] "+name)
	case answer.Busy:
		h.folderError(w, http.StatusInternalServerError, "Failed to open file "+hostPath(d, name)+": Device or resource busy")
	default:
		h.sendFile(w, r, view.switches, answer.File)
	}
}

// isDescriptorName tells x.vmdk, of which only the descriptor is given out, from its extents.
func isDescriptorName(name string) bool {
	stem := strings.TrimSuffix(name, ".vmdk")
	if stem == name {
		return false
	}
	for _, suffix := range []string{"-flat", "-delta", "-sesparse", "-ctk", "-rdm", "-rdmp"} {
		if strings.HasSuffix(stem, suffix) {
			return false
		}
	}
	return true
}

func (h *host) serveDirectory(w http.ResponseWriter, d *labDatastore, name string) {
	entries, err := os.ReadDir(filepath.Join(d.LocalPath, filepath.FromSlash(name)))
	if err != nil {
		h.folderError(w, http.StatusInternalServerError, "Failed to list ["+d.Name+"] "+name)
		return
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	query := "?dcPath=" + datacenterPath + "&dsName=" + url.PathEscape(d.Name)
	var rows []indexEntry
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			continue // removed meanwhile
		}
		label := entry.Name()
		elements := []string{}
		for _, element := range strings.Split(path.Join(name, entry.Name()), "/") {
			elements = append(elements, url.PathEscape(element))
		}
		href := "/folder/" + strings.Join(elements, "/")
		if entry.IsDir() {
			label, href = label+"/", href+"/"
		}
		rows = append(rows, indexEntry{label: label, href: href + query, modified: info.ModTime(), size: info.Size(), isFile: !entry.IsDir()})
	}
	writeIndex(w, "Index of "+name+" on datastore "+d.Name+" in datacenter "+datacenterPath, rows)
}

// byteRange is one requested range, its end included.
type byteRange struct{ first, last int64 }

var errUnsatisfiable = errors.New("range not satisfiable")

// parseRange reads a Range header against a size. No header, or one that is not a single range of bytes,
// gives nil: the whole file is sent.
func parseRange(header string, size int64) (*byteRange, error) {
	value := strings.TrimPrefix(header, "bytes=")
	if value == header || strings.Contains(value, ",") {
		return nil, nil
	}
	from, to, found := strings.Cut(strings.TrimSpace(value), "-")
	if !found {
		return nil, nil
	}
	if from == "" { // the last N bytes
		n, err := strconv.ParseInt(to, 10, 64)
		if err != nil || n < 0 {
			return nil, nil
		}
		if n == 0 || size == 0 {
			return nil, errUnsatisfiable
		}
		if n > size {
			n = size
		}
		return &byteRange{size - n, size - 1}, nil
	}
	first, err := strconv.ParseInt(from, 10, 64)
	if err != nil || first < 0 {
		return nil, nil
	}
	last := size - 1
	if to != "" {
		given, err := strconv.ParseInt(to, 10, 64)
		if err != nil || given < first {
			return nil, nil
		}
		if given < last {
			last = given
		}
	}
	if first >= size {
		return nil, errUnsatisfiable
	}
	return &byteRange{first, last}, nil
}

func (h *host) sendFile(w http.ResponseWriter, r *http.Request, switches labSwitches, local string) {
	file, err := os.Open(local)
	if err != nil {
		h.folderError(w, http.StatusNotFound, "Not Found")
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		h.folderError(w, http.StatusNotFound, "Not Found")
		return
	}

	size := info.Size()
	header := w.Header()
	header.Set("Content-Type", contentType(local))
	header.Set("Last-Modified", info.ModTime().UTC().Format(http.TimeFormat))
	header.Set("Accept-Ranges", "bytes")

	status, first, length := http.StatusOK, int64(0), size
	if switches.FolderRange != "ignored" {
		part, err := parseRange(r.Header.Get("Range"), size)
		if err != nil {
			header.Set("Content-Range", fmt.Sprintf("bytes */%d", size))
			h.folderError(w, http.StatusRequestedRangeNotSatisfiable, "Requested Range Not Satisfiable")
			return
		}
		if part != nil {
			status, first, length = http.StatusPartialContent, part.first, part.last-part.first+1
			header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.first, part.last, size))
		}
	}
	header.Set("Content-Length", strconv.FormatInt(length, 10))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	h.sendBody(r.Context(), w, io.NewSectionReader(file, first, length), length, switches)
}

func contentType(name string) string {
	switch path.Ext(name) {
	case ".vmx", ".vmsd", ".log", ".vmxf":
		return "text/plain"
	}
	return "application/octet-stream"
}

// sendBody copies the body, at a limited rate and cut short where the switches say so.
func (h *host) sendBody(ctx context.Context, w io.Writer, body io.Reader, length int64, switches labSwitches) {
	cut := switches.FolderCutAfterBytes != nil && *switches.FolderCutAfterBytes < length
	if cut {
		body = io.LimitReader(body, *switches.FolderCutAfterBytes)
	}
	buffer := make([]byte, copyBufferBytes)
	if rate := switches.FolderBytesPerSecond; rate != nil && *rate > 0 {
		body = &pacedReader{ctx: ctx, source: body, bytesPerSecond: *rate, started: time.Now()}
		buffer = buffer[:64<<10]
	}
	copied, err := io.CopyBuffer(writerOnly{w}, readerOnly{body}, buffer)
	if cut || err != nil || copied != length {
		panic(http.ErrAbortHandler) // closes the connection in the middle of the body
	}
}

// readerOnly and writerOnly hide WriteTo and ReadFrom, which would copy by small buffers of their own.
type (
	readerOnly struct{ io.Reader }
	writerOnly struct{ io.Writer }
)

// pacedReader lets so many bytes a second through.
type pacedReader struct {
	ctx            context.Context
	source         io.Reader
	bytesPerSecond int64
	started        time.Time
	passed         int64
}

func (p *pacedReader) Read(b []byte) (int, error) {
	due := p.started.Add(time.Duration(float64(p.passed) / float64(p.bytesPerSecond) * float64(time.Second)))
	if wait := time.Until(due); wait > 0 {
		pause(p.ctx, wait)
	}
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.source.Read(b)
	p.passed += int64(n)
	return n, err
}

// writeFile puts or removes a file that nothing holds open.
func (h *host) writeFile(w http.ResponseWriter, r *http.Request, d *labDatastore, name string) {
	local := filepath.Join(d.LocalPath, filepath.FromSlash(name))
	answer, err := h.daemon.open(r.Context(), hostPath(d, name), "raw")
	if err != nil {
		h.unavailable(w, err)
		return
	}
	if answer.Busy {
		h.folderError(w, http.StatusInternalServerError, "Failed to open file "+hostPath(d, name)+": Device or resource busy")
		return
	}
	if r.Method == http.MethodDelete {
		if err := os.Remove(local); err != nil {
			h.folderError(w, http.StatusNotFound, "Not Found: ["+d.Name+"] "+name)
			return
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}

	if info, err := os.Stat(filepath.Dir(local)); err != nil || !info.IsDir() {
		h.folderError(w, http.StatusNotFound, "Not Found: folder of ["+d.Name+"] "+name)
		return
	}
	file, err := os.Create(local)
	if err != nil {
		h.folderError(w, http.StatusInternalServerError, "Failed to create ["+d.Name+"] "+name)
		return
	}
	_, copyErr := io.CopyBuffer(writerOnly{file}, readerOnly{r.Body}, make([]byte, copyBufferBytes))
	if closeErr := file.Close(); copyErr != nil || closeErr != nil {
		h.folderError(w, http.StatusInternalServerError, "Failed to write ["+d.Name+"] "+name)
		return
	}
	status := http.StatusCreated
	if answer.Ok {
		status = http.StatusOK
	}
	w.WriteHeader(status)
}
