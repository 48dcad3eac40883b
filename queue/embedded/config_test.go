package embedded_test

import (
	"errors"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue/embedded"
)

// Each setting at its limit and beyond: Start refuses what Validate refuses, and names the field.
func TestConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, c := range map[string]struct {
		cfg   embedded.Config
		field string // empty: the setting can be used
	}{
		"defaults":          {embedded.Config{Dir: dir}, ""},
		"no directory":      {embedded.Config{}, "Dir"},
		"unknown sync":      {embedded.Config{Dir: dir, Sync: "never"}, "Sync"},
		"sync always":       {embedded.Config{Dir: dir, Sync: embedded.SyncAlways}, ""},
		"sync interval":     {embedded.Config{Dir: dir, Sync: embedded.SyncInterval, FlushEvery: time.Hour}, ""},
		"negative interval": {embedded.Config{Dir: dir, FlushEvery: -1}, "FlushEvery"},
		"negative reserve":  {embedded.Config{Dir: dir, MinFree: -1}, "MinFree"},
		"negative store":    {embedded.Config{Dir: dir, MaxStore: -1}, "MaxStore"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.cfg.Validate()
			if c.field == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if bad, ok := errors.AsType[*embedded.ConfigError](err); !ok || bad.Field != c.field {
				t.Errorf("validate: %v; want a ConfigError of %s", err, c.field)
			}
			srv, err := embedded.Start(c.cfg)
			if bad, ok := errors.AsType[*embedded.ConfigError](err); !ok || bad.Field != c.field {
				t.Errorf("start: %v; want a ConfigError of %s", err, c.field)
			}
			if err == nil {
				_ = srv.Close()
			}
		})
	}
	_, err := embedded.Start(embedded.Config{Sync: "never", MinFree: -1})
	if want := "embedded: Dir: is required\nembedded: Sync: must be always or interval (got \"never\")\nembedded: MinFree: must not be negative (got -1)"; err == nil || err.Error() != want {
		t.Errorf("start: %v; want %s", err, want)
	}
}
