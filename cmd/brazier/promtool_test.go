package main

import (
	"flag"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

var withPromtool = flag.Bool("promtool", false, "run promtool, of Debian's package prometheus, over the metrics and the rules")

// scraped returns what /metrics of a role with everything on shows: TLS, webhooks, Braze, messages, a dead letter, a held page.
func scraped(t *testing.T) string {
	t.Helper()
	w := newWorld(t)
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	certPEM, keyPEM := newPair(t, time.Now().Add(time.Hour))
	writeFile(t, cert, string(certPEM))
	writeFile(t, key, string(keyPEM))
	r := startRole(t, "serve", "--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0", "--data="+t.TempDir(), "--pages="+w.pages, "--graph-url=http://127.0.0.1:1",
		"--log-format=json", "--tls-cert="+cert, "--tls-key="+key)
	ops := "http://" + r.log.await(t, "ops")["address"].(string)
	r.log.await(t, "started")
	var metrics string
	eventually(t, "the metrics are there", func() bool {
		_, metrics = get(t, ops+"/metrics")
		return strings.Contains(metrics, "\nbrazier_ready 1")
	})
	if code := r.end(); code != cli.ExitOK {
		t.Errorf("exit code %d", code)
	}
	return metrics
}

// Names and units are those that Prometheus expects.
func TestPromtoolMetrics(t *testing.T) {
	if !*withPromtool {
		return // .ci/run asks for it
	}
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(scraped(t))
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// Rules and the dashboard use metrics that there are, and every metric is in the guide.
func TestMetricNames(t *testing.T) {
	t.Parallel()
	metrics := scraped(t)
	known := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)`).FindAllStringSubmatch(metrics, -1) {
		known[m[1]] = true
	}
	guide := read(t, "../../deploy/README.md")
	for name := range known {
		if strings.HasPrefix(name, "brazier_") && !isNamed(guide, name) {
			t.Errorf("deploy/README.md does not name %s", name)
		}
	}
	documented := regexp.MustCompile("brazier_[a-z_]+").FindAllString(guide, -1)
	for _, file := range []string{"prometheus-rules.yaml", "grafana-dashboard.json"} {
		used := regexp.MustCompile(`brazier_[a-z_]+`).FindAllString(read(t, "../../deploy/"+file), -1)
		if len(used) == 0 {
			t.Errorf("%s uses no metric", file)
		}
		for _, name := range used {
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				name = strings.TrimSuffix(name, suffix)
			}
			if !known[name] && !slices.Contains(documented, name) {
				t.Errorf("%s uses %s, which is no metric", file, name)
			}
		}
	}
}

// isNamed reports whether a text has a metric's name, or its end after an ellipsis.
func isNamed(text, name string) bool {
	for i := range name {
		if name[i] == '_' && strings.Contains(text, "`…"+name[i:]+"`") {
			return true
		}
	}
	return strings.Contains(text, "`"+name+"`")
}

// Every alert fires on the series that it is for, and on no others.
func TestPromtoolRules(t *testing.T) {
	if !*withPromtool {
		return // .ci/run asks for it
	}
	for _, args := range [][]string{{"check", "rules", "prometheus-rules.yaml"}, {"test", "rules", "prometheus-rules_test.yaml"}} {
		check := exec.Command("promtool", args...)
		check.Dir = "../../deploy"
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}
