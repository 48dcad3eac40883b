package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
	"github.com/brazier-relay/brazier/cmd/brazier/process"
	"github.com/brazier-relay/brazier/queue"
)

// composeFile is what is checked of deploy/compose.yaml.
type composeFile struct {
	Services map[string]struct {
		Image   string
		Command []string
		Ports   []string
		Grace   string `yaml:"stop_grace_period"`
	}
}

// manifest is what is checked of one document of deploy/kubernetes.yaml.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		Template struct {
			Spec struct {
				Grace      int `yaml:"terminationGracePeriodSeconds"`
				Containers []container
			}
		}
	}
}

type container struct {
	Args  []string
	Env   []struct{ Name string }
	Ports []struct {
		Name string
		Port int `yaml:"containerPort"`
	}
	Liveness  probe `yaml:"livenessProbe"`
	Readiness probe `yaml:"readinessProbe"`
	Lifecycle struct {
		PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
	}
}

type probe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

// port is the number behind a port's name.
func (c container) port(name string) string {
	for _, p := range c.Ports {
		if p.Name == name {
			return fmt.Sprint(p.Port)
		}
	}
	return "none"
}

func readCompose(t *testing.T) (c composeFile) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, "../../deploy/compose.yaml")), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func readManifests(t *testing.T) (all []manifest) {
	t.Helper()
	for d := yaml.NewDecoder(strings.NewReader(read(t, "../../deploy/kubernetes.yaml"))); ; {
		var m manifest
		err := d.Decode(&m)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
}

// newParser is execute's, without running anything.
func newParser(t *testing.T) *kong.Kong {
	t.Helper()
	p, err := kong.New(&commands{}, kong.DefaultEnvars("BRAZIER"), kong.ExplicitGroups(groups), cli.Units(), kong.Vars(vars), kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// parseFlags parses a command line and returns its flags' values.
func parseFlags(t *testing.T, args []string) map[string]string {
	t.Helper()
	parsed, err := newParser(t).Parse(args)
	if err != nil {
		t.Fatalf("brazier %s: %v", strings.Join(args, " "), err)
	}
	values := map[string]string{}
	for _, f := range parsed.Flags() {
		values[f.Name] = fmt.Sprint(parsed.FlagValue(f))
	}
	return values
}

// reachable returns the port of an address that others can reach.
func reachable(t *testing.T, address string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil || host != "0.0.0.0" {
		t.Errorf("%q cannot be reached from outside the container", address)
	}
	return port
}

func TestDeployDockerfile(t *testing.T) {
	dockerfile := read(t, "../../deploy/Dockerfile")
	var args []string
	if m := regexp.MustCompile(`(?m)^CMD (\[.*\])$`).FindStringSubmatch(dockerfile); m == nil || json.Unmarshal([]byte(m[1]), &args) != nil {
		t.Fatal("no CMD with a JSON list")
	}
	for _, m := range regexp.MustCompile(`(?m)^ENV (\w+)=(.*)$`).FindAllStringSubmatch(dockerfile, -1) {
		t.Setenv(m[1], m[2])
	}
	flags := parseFlags(t, args)
	for _, name := range []string{"listen", "ops-listen"} {
		if port := reachable(t, flags[name]); !regexp.MustCompile(`(?m)^EXPOSE .*\b` + port + `\b`).MatchString(dockerfile) {
			t.Errorf("--%s: port %s is not exposed", name, port)
		}
	}
	if !strings.Contains(dockerfile, "\nVOLUME "+flags["data"]+"\n") {
		t.Errorf("--data=%s is not the volume", flags["data"])
	}
	goMod := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "../../go.mod"))
	if want := "FROM golang:" + goMod[1] + " AS build"; !strings.Contains(dockerfile, want) {
		t.Errorf("no %q, although go.mod says so", want)
	}
}

func TestDeployCompose(t *testing.T) {
	for name, service := range readCompose(t).Services {
		if !strings.HasPrefix(service.Image, "${IMAGE:") { // NATS
			continue
		}
		flags := parseFlags(t, service.Command)
		for _, published := range service.Ports {
			inside := published[strings.LastIndexByte(published, ':')+1:]
			if inside != reachable(t, flags["listen"]) && inside != reachable(t, flags["control-listen"]) {
				t.Errorf("%s: nothing listens on the published port %s", name, inside)
			}
		}
		if name == "sandbox" { // it has nothing to finish
			continue
		}
		if grace, err := time.ParseDuration(service.Grace); err != nil || grace <= process.ShutdownBudget {
			t.Errorf("%s: stop_grace_period %q is not above %v", name, service.Grace, process.ShutdownBudget)
		}
	}
}

func TestDeployKubernetes(t *testing.T) {
	deployments := 0
	for _, m := range readManifests(t) {
		if m.Kind != "Deployment" {
			continue
		}
		deployments++
		pod := m.Spec.Template.Spec
		c := pod.Containers[0]
		for _, env := range c.Env {
			t.Setenv(env.Name, "nats://user:password@nats:4222")
		}
		flags := parseFlags(t, c.Args)
		for _, env := range c.Env {
			if flag := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(env.Name, "BRAZIER_"), "_", "-")); flags[flag] != os.Getenv(env.Name) {
				t.Errorf("%s: %s does not reach --%s", m.Metadata.Name, env.Name, flag)
			}
		}
		if ops := reachable(t, flags["ops-listen"]); c.port(c.Liveness.HTTPGet.Port) != ops || c.port(c.Readiness.HTTPGet.Port) != ops {
			t.Errorf("%s: the probes do not ask at port %s", m.Metadata.Name, ops)
		}
		if c.Liveness.HTTPGet.Path != "/healthz" || c.Readiness.HTTPGet.Path != "/readyz" {
			t.Errorf("%s: the probes ask for %s and %s", m.Metadata.Name, c.Liveness.HTTPGet.Path, c.Readiness.HTTPGet.Path)
		}
		if listen, ok := flags["listen"]; ok && c.port("http") != reachable(t, listen) {
			t.Errorf("%s: port http is %s, the ingress listens on %s", m.Metadata.Name, c.port("http"), listen)
		}
		grace, before := time.Duration(pod.Grace)*time.Second, time.Duration(c.Lifecycle.PreStop.Sleep.Seconds)*time.Second
		if grace <= before+process.ShutdownBudget {
			t.Errorf("%s: terminationGracePeriodSeconds %v is not above %v + %v", m.Metadata.Name, grace, before, process.ShutdownBudget)
		}
	}
	if deployments != 2 {
		t.Errorf("%d deployments, want ingress and worker", deployments)
	}
}

// TestDeployPages reads the page files of compose.yaml and of kubernetes.yaml, with secrets of its own.
func TestDeployPages(t *testing.T) {
	files := map[string]string{"compose.yaml": read(t, "../../deploy/compose/pages.yaml")}
	for _, m := range readManifests(t) {
		if m.Kind == "ConfigMap" {
			files["kubernetes.yaml"] = m.Data["pages.yaml"]
		}
	}
	for name, content := range files {
		dir := t.TempDir()
		tokenFile := regexp.MustCompile(`token_file: (\S+/)(\S+)`)
		for _, m := range tokenFile.FindAllStringSubmatch(content, -1) {
			if err := os.WriteFile(filepath.Join(dir, m[2]), []byte("token\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, "pages.yaml")
		if err := os.WriteFile(path, []byte(tokenFile.ReplaceAllString(content, "token_file: $2")), 0o600); err != nil {
			t.Fatal(err)
		}
		if pages, err := pagefile.Read(path, pagefile.Options{}); err != nil || len(pages) == 0 {
			t.Errorf("%s: %d pages, %v", name, len(pages), err)
		}
	}
}

// TestDeployVariables finds a flag for every variable that an operator is told of.
func TestDeployVariables(t *testing.T) {
	known := map[string]bool{queue.StreamJobs: true, queue.StreamRecords: true, queue.StreamDead: true, queue.StreamEvents: true, queue.StreamUpdates: true, queue.StreamCampaigns: true, queue.BucketPeople: true, queue.BucketSent: true, queue.StreamOutcomes: true, queue.BucketPages: true, queue.BucketPace: true, queue.BucketAlive: true}
	for _, command := range newParser(t).Model.Children {
		for _, flag := range command.Flags {
			for _, name := range flag.Envs {
				known[name] = true
			}
		}
	}
	files, err := filepath.Glob("../../deploy/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(files, "../../README.md") {
		if info, err := os.Stat(path); err != nil || info.IsDir() { // secrets/ of somebody who tries compose.yaml
			continue
		}
		for _, name := range regexp.MustCompile(`\bBRAZIER_[A-Z_]*[A-Z]`).FindAllString(read(t, path), -1) {
			if !known[name] {
				t.Errorf("%s names %s, which no flag has", filepath.Base(path), name)
			}
		}
	}
}

// The rules of deploy/alerts.md need no line that --log-level warn leaves out.
func TestAlertsNeedWarnings(t *testing.T) {
	levels := map[string]string{}
	for line := range strings.Lines(read(t, "../../deploy/LOGS.md")) {
		if cells := strings.Split(line, "|"); len(cells) >= 5 {
			for _, event := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(cells[1], -1) {
				levels[event[1]] += cells[2]
			}
		}
	}
	_, rules, _ := strings.Cut(read(t, "../../deploy/alerts.md"), "```yaml")
	rules, _, _ = strings.Cut(rules, "```")
	named := regexp.MustCompile(`"event":"\(?([a-z_|]+)\)?"`).FindAllStringSubmatch(rules, -1)
	if len(named) < 10 {
		t.Fatalf("%d rules name an event", len(named))
	}
	for _, m := range named {
		for _, event := range strings.Split(m[1], "|") {
			if !strings.Contains(levels[event], "warn") && !strings.Contains(levels[event], "error") {
				t.Errorf("an alert needs event %s, which has level %q", event, levels[event])
			}
		}
	}
}

// TestDeployAlerts compares the events and keys of deploy/alerts.md with the log catalogue.
func TestDeployAlerts(t *testing.T) {
	keys := map[string][]string{} // event to its row of the catalogue
	for line := range strings.Lines(read(t, "../../deploy/LOGS.md")) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 {
			continue
		}
		quoted := regexp.MustCompile("`([a-z_]+)`")
		for _, event := range quoted.FindAllStringSubmatch(cells[1], -1) {
			for _, key := range quoted.FindAllStringSubmatch(cells[3], -1) {
				keys[event[1]] = append(keys[event[1]], key[1])
			}
		}
	}
	alerts := read(t, "../../deploy/alerts.md")
	named := regexp.MustCompile(`"event":"(?:\(([a-z_|]+)\)|([a-z_]+))"|\.event == "([a-z_]+)"`)
	for _, m := range named.FindAllStringSubmatch(alerts, -1) {
		for _, event := range strings.Split(m[1]+m[2]+m[3], "|") {
			if keys[event] == nil {
				t.Errorf("alerts.md: the catalogue has no event %q", event)
			}
		}
	}
	samples := 0
	for line := range strings.Lines(alerts) {
		var sample map[string]any
		if !strings.HasPrefix(line, `{"level"`) {
			continue
		}
		if err := json.Unmarshal([]byte(line), &sample); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		samples++
		event := sample["event"].(string)
		for key := range sample {
			if !slices.Contains([]string{"level", "ts", "msg", "event", "component"}, key) && !slices.Contains(keys[event], key) {
				t.Errorf("alerts.md: event %s has no key %s in the catalogue", event, key)
			}
		}
	}
	if samples == 0 {
		t.Error("alerts.md has no sample lines")
	}
}

// deployEnvironment is this process's with what deploy/nats.conf takes from it.
func deployEnvironment() []string {
	return append(os.Environ(), "NATS_NAME=nats-1", "NATS_ROUTE_PASSWORD=proute",
		`NATS_ROUTES=["nats://route:proute@nats-1:6222", "nats://route:proute@nats-2:6222"]`,
		"NATS_INGRESS_PASSWORD=pingress", "NATS_WORKER_PASSWORD=pworker", "NATS_OPERATOR_PASSWORD=poperator")
}

func TestDeployNATSConf(t *testing.T) {
	if err := build(); err != nil {
		t.Fatal(err)
	}
	const conf = "../../deploy/nats.conf"
	test := exec.Command(filepath.Join(bin, "nats-server"), "-c", conf, "-t")
	test.Env = deployEnvironment()
	if out, err := test.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if !strings.Contains(read(t, conf), "sync_interval: always") {
		t.Error("a power cut would lose what was accepted")
	}
}
