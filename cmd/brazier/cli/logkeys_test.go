package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
)

// A line in each dialect: what a collector looks for is there, and nothing of ours is where it looks for something else.
func TestLogKeys(t *testing.T) {
	t.Parallel()
	common := map[string]any{"page": "acme"}
	for keys, want := range map[string]map[string]any{
		"none":    {"level": "warn", "msg": "text", "event": "store_error", "error": "broken", "status": 503.0, "host": "graph", "user": "u", "component": "ingress", "stack": "s"},
		"default": {"level": "warn", "msg": "text", "event": "store_error", "error": "broken", "status": 503.0, "host": "graph", "user": "u", "component": "ingress", "stack": "s"},
		"ecs": {"log.level": "warn", "message": "text", "event.action": "store_error", "error.message": "broken", "status": 503.0, "server.address": "graph", "user.id": "u",
			"log.logger": "ingress", "error.stack_trace": "s", "ecs.version": "8.11.0"},
		"gcp": {"severity": "WARNING", "message": "text", "event": "store_error", "error": "broken", "status": 503.0, "host": "graph", "user": "u", "component": "ingress", "stack_trace": "s"},
		"datadog": {"status": "warn", "message": "text", "event": "store_error", "error.message": "broken", "http.status_code": 503.0, "http.url_details.host": "graph", "usr.id": "u",
			"logger.name": "ingress", "error.stack": "s"},
	} {
		var out bytes.Buffer
		log := Component(LogFlags{Level: "info", Format: "json", Keys: keys}.Logger(&out), "ingress")
		log.Debug("left out", zap.String("event", "accepted"))
		log.Warn("text", zap.String("event", "store_error"), zap.Error(errors.New("broken")), zap.Int("status", 503), zap.String("host", "graph"),
			zap.String("user", "u"), zap.String("stack", "s"), zap.String("page", "acme"))
		var got map[string]any
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatalf("%q: %v in %s", keys, err, out.String())
		}
		for _, name := range []string{"ts", "@timestamp", "time", "timestamp"} {
			if at, ok := got[name]; ok {
				if _, err := time.Parse(time.RFC3339Nano, at.(string)); err != nil || name != (LogFlags{Keys: keys}).dialect().time {
					t.Errorf("%q: %s is %v", keys, name, at)
				}
				delete(got, name)
			}
		}
		for name, value := range common {
			want[name] = value
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", keys, diff)
		}
	}
}

// The catalogue has all that is renamed.
func TestLogKeysAreCatalogued(t *testing.T) {
	t.Parallel()
	catalogue, err := os.ReadFile("../../../deploy/LOGS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(catalogue), "## Keys for a collector")
	for name, d := range dialects {
		for _, key := range []string{name, d.time, d.level, d.message} {
			if !strings.Contains(table, "`"+key+"`") {
				t.Errorf("deploy/LOGS.md has no %s of %s", key, name)
			}
		}
		for from, to := range d.renamed {
			if !strings.Contains(table, "`"+from+"`") || !strings.Contains(table, "`"+to+"`") {
				t.Errorf("deploy/LOGS.md does not say that %s is %s for %s", from, to, name)
			}
		}
	}
}
