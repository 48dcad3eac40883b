package main

import (
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// monitoring is a Prometheus server of Debian's package, with the rules of deploy/ and the ops listeners of a fault's processes.
type monitoring struct {
	t       *testing.T
	url     string
	targets string // the file that lists them, which Prometheus follows
	known   []string
	rules   map[string]string // expressions by the alert's name
}

func startMonitoring(t *testing.T, every time.Duration) *monitoring {
	t.Helper()
	dir, address := t.TempDir(), freeAddress(t)
	rules, err := filepath.Abs("../../deploy/prometheus-rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m := &monitoring{t: t, url: "http://" + address, targets: filepath.Join(dir, "targets.yaml"), rules: map[string]string{}}
	writeFile(t, m.targets, "[]\n")
	config := filepath.Join(dir, "prometheus.yaml")
	writeFile(t, config, fmt.Sprintf(`global: {scrape_interval: %v, scrape_timeout: %v, evaluation_interval: 1h}
rule_files: [%q]
scrape_configs:
  - job_name: brazier
    file_sd_configs: [{files: [%q], refresh_interval: 1s}]
`, every, every, rules, m.targets))
	startCommand(t, exec.Command("prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=warn"))
	eventually(t, "Prometheus", func() bool { return isReady(m.url + "/-/ready") })
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Query string }
			}
		}
	}
	getJSON(t, m.url+"/api/v1/rules", &answer)
	for _, group := range answer.Data.Groups {
		for _, rule := range group.Rules {
			m.rules[rule.Name] = rule.Query
		}
	}
	return m
}

// scrape adds ops listeners, HOST:PORT each, and returns when each was read twice: a rate needs a beginning.
func (m *monitoring) scrape(addresses ...string) {
	m.t.Helper()
	m.known = append(m.known, addresses...)
	writeFile(m.t, m.targets, fmt.Sprintf("- targets: [%s]\n", strings.Join(m.known, ", ")))
	for _, address := range addresses {
		eventually(m.t, address+" is scraped", func() bool {
			return len(m.query(fmt.Sprintf("count_over_time(up{instance=%q}[1h]) > 1 and up == 1", address))) > 0
		})
	}
}

// query returns the labels of what an expression yields now.
func (m *monitoring) query(expr string) (found []map[string]string) {
	m.t.Helper()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct{ Metric map[string]string }
		}
	}
	getJSON(m.t, m.url+"/api/v1/query?query="+url.QueryEscape(expr), &answer)
	if answer.Status != "success" {
		m.t.Fatalf("%s: %s", expr, answer.Error)
	}
	for _, r := range answer.Data.Result {
		found = append(found, r.Metric)
	}
	return found
}

// firing returns the alerts whose expressions hold now. For how long they have to hold is left out: promtool's tests cover it.
func (m *monitoring) firing() (alerts []string) {
	m.t.Helper()
	for name, expr := range m.rules {
		if len(m.query(expr)) > 0 {
			alerts = append(alerts, name)
		}
	}
	return alerts
}
