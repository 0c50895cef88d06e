package main

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// Browsing a datastore is a read, which the free licence allows although it comes as a task.

func browserRef(d *labDatastore) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "HostDatastoreBrowser", Value: d.UUID + "-browser"}
}

func (c *call) searchDatastore() (interface{}, error) {
	request := c.method.Body.(*types.SearchDatastore_Task)
	return &types.SearchDatastore_TaskResponse{Returnval: c.search(request.DatastorePath, request.SearchSpec, false)}, nil
}

func (c *call) searchSubFolders() (interface{}, error) {
	request := c.method.Body.(*types.SearchDatastoreSubFolders_Task)
	return &types.SearchDatastoreSubFolders_TaskResponse{Returnval: c.search(request.DatastorePath, request.SearchSpec, true)}, nil
}

func (c *call) search(datastorePath string, spec *types.HostDatastoreBrowserSearchSpec, deep bool) types.ManagedObjectReference {
	started := time.Now().UnixMilli()
	description := "HostDatastoreBrowser.search"
	if deep {
		description = "HostDatastoreBrowser.searchSubFolders"
	}
	results, err := c.listFolders(datastorePath, spec, deep)
	ended := time.Now().UnixMilli()
	task := &labTask{
		DescriptionID: description,
		Entity:        labEntity{Type: hostRef.Type, Value: hostRef.Value, Name: c.state.Host.Name}, // a browser is no entity
		State:         "success", QueuedAtMs: started, StartedAtMs: &started, EndedAtMs: &ended,
	}
	var result types.AnyType
	if err == nil && deep {
		result = types.ArrayOfHostDatastoreBrowserSearchResults{HostDatastoreBrowserSearchResults: results}
	} else if err == nil {
		result = results[0]
	}
	return c.host.newTask(task, result, err)
}

func (c *call) listFolders(datastorePath string, spec *types.HostDatastoreBrowserSearchSpec, deep bool) ([]types.HostDatastoreBrowserSearchResults, error) {
	datastore := c.state.datastoreOf(datastorePath)
	if datastore == nil || browserRef(datastore) != c.method.This {
		return nil, invalidArgument("datastorePath")
	}
	folder := strings.Trim(strings.TrimPrefix(datastorePath, "["+datastore.Name+"]"), " /")
	root := filepath.Join(datastore.LocalPath, filepath.FromSlash(folder))
	if info, err := os.Stat(root); hasParentElement(folder) || err != nil || !info.IsDir() {
		return nil, &vimFault{
			text:  "File " + datastorePath + " was not found",
			fault: &types.FileNotFound{FileFault: types.FileFault{File: datastorePath}},
		}
	}

	ref := datastoreRef(datastore)
	byFolder := map[string]int{}
	var results []types.HostDatastoreBrowserSearchResults
	addFolder := func(relative string) {
		shown := "[" + datastore.Name + "] " + strings.TrimPrefix(path.Join(folder, relative)+"/", "/")
		if path.Join(folder, relative) == "" {
			shown = "[" + datastore.Name + "]"
		}
		byFolder[relative] = len(results)
		results = append(results, types.HostDatastoreBrowserSearchResults{Datastore: &ref, FolderPath: shown})
	}
	addFolder("")
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == root {
			return nil // files come and go while this looks
		}
		relative := filepath.ToSlash(strings.TrimPrefix(name, root+string(filepath.Separator)))
		parent := path.Dir(relative)
		if parent == "." {
			parent = ""
		}
		info, infoErr := entry.Info()
		if infoErr == nil && matches(spec, entry.Name()) {
			at := &results[byFolder[parent]]
			modified := info.ModTime().UTC()
			at.File = append(at.File, fileInfo(entry, info.Size(), modified))
		}
		if !entry.IsDir() {
			return nil
		}
		if !deep {
			return filepath.SkipDir
		}
		addFolder(relative)
		return nil
	})
	return results, err
}

func fileInfo(entry fs.DirEntry, size int64, modified time.Time) types.BaseFileInfo {
	info := types.FileInfo{Path: entry.Name(), FileSize: size, Modification: &modified, Owner: "root"}
	if entry.IsDir() {
		return &types.FolderFileInfo{FileInfo: info}
	}
	return &info
}

func matches(spec *types.HostDatastoreBrowserSearchSpec, name string) bool {
	if spec == nil || len(spec.MatchPattern) == 0 {
		return true
	}
	for _, pattern := range spec.MatchPattern {
		if ok, err := path.Match(pattern, name); err == nil && ok {
			return true
		}
	}
	return false
}
