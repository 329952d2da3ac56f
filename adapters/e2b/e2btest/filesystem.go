package e2btest

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

func filesystemRPC(w http.ResponseWriter, r *http.Request, b *box, method string) {
	var in struct {
		Path        string `json:"path"`
		Depth       int    `json:"depth"`
		Source      string `json:"source"`
		Destination string `json:"destination"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		rpcFail(w, "invalid_argument", err.Error())
		return
	}
	path := b.real(in.Path)
	switch method {
	case "Stat":
		reply(w, path)
	case "MakeDir":
		if info, err := os.Stat(path); err == nil {
			if info.IsDir() {
				rpcFail(w, "already_exists", "directory already exists: "+in.Path)
			} else {
				rpcFail(w, "invalid_argument", "path already exists but it is not a directory: "+in.Path)
			}
			return
		}
		if err := os.MkdirAll(path, 0o755); err != nil {
			rpcFail(w, "internal", err.Error())
			return
		}
		reply(w, path)
	case "Move":
		to := b.real(in.Destination)
		err := os.MkdirAll(filepath.Dir(to), 0o755)
		if err == nil {
			err = os.Rename(b.real(in.Source), to)
		}
		if err != nil {
			failFS(w, err)
			return
		}
		reply(w, to)
	case "Remove":
		if err := os.RemoveAll(path); err != nil {
			failFS(w, err)
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{})
	case "ListDir":
		listDir(w, path, max(in.Depth, 1))
	default:
		rpcFail(w, "unimplemented", method)
	}
}

func failFS(w http.ResponseWriter, err error) {
	if isNotExist(err) {
		rpcFail(w, "not_found", err.Error())
		return
	}
	rpcFail(w, "internal", err.Error())
}

func reply(w http.ResponseWriter, path string) {
	e, err := entry(path)
	if err != nil {
		failFS(w, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"entry": e})
}

func listDir(w http.ResponseWriter, root string, depth int) {
	entries := []map[string]any{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == root {
			return nil
		}
		e, err := entry(path)
		if err != nil {
			return err
		}
		entries = append(entries, e)
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() && strings.Count(rel, string(filepath.Separator))+1 >= depth {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		failFS(w, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"entries": entries})
}

func entry(path string) (map[string]any, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	kind := "FILE_TYPE_FILE"
	out := map[string]any{}
	switch {
	case info.IsDir():
		kind = "FILE_TYPE_DIRECTORY"
	case info.Mode()&fs.ModeSymlink != 0:
		kind = "FILE_TYPE_SYMLINK"
		if to, err := os.Readlink(path); err == nil {
			out["symlinkTarget"] = to
		}
	}
	out["name"], out["type"], out["path"] = info.Name(), kind, path
	out["size"], out["mode"], out["permissions"] = strconv.FormatInt(info.Size(), 10), uint32(info.Mode().Perm()), info.Mode().String()
	out["owner"], out["group"], out["modifiedTime"] = "user", "user", info.ModTime().UTC()
	return out, nil
}
