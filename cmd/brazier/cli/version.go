package cli

import (
	"runtime"
	"runtime/debug"
)

// Version is the module's, as the Go tool stamped it into the binary.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// Versions returns names and versions of brazier and of what it was built with: its commit, Go, and NATS.
func Versions() [][2]string {
	versions := [][2]string{{"brazier", Version()}, {"commit", commit()}, {"Go", runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH}}
	for _, module := range [][2]string{{"NATS server", "github.com/nats-io/nats-server/v2"}, {"NATS client", "github.com/nats-io/nats.go"}} {
		versions = append(versions, [2]string{module[0], moduleVersion(module[1])})
	}
	return versions
}

const unknown = "unknown"

func commit() string {
	settings := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
	}
	revision := settings["vcs.revision"]
	switch {
	case revision == "":
		return unknown
	case settings["vcs.modified"] == "true":
		return revision + ", with changes that are in no commit"
	}
	return revision
}

func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	for _, m := range info.Deps {
		if m.Path == path {
			if m.Replace != nil {
				return m.Replace.Path + " " + m.Replace.Version
			}
			return m.Version
		}
	}
	return unknown
}
