package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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
	"github.com/nats-io/nats.go"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// composeFile is what is checked of deploy/compose.yaml.
type composeFile struct {
	Services map[string]struct {
		Build   struct{ Dockerfile string }
		Command []string
		Ports   []string
		Grace   string `yaml:"stop_grace_period"`
	}
	Configs map[string]struct{ Content string }
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
	p, err := kong.New(&commands{}, kong.DefaultEnvars("BRAZIER"), kong.ExplicitGroups(groups), kong.Vars(vars), kong.Exit(func(int) {}))
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
		if service.Build.Dockerfile == "" { // NATS
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
		if grace, err := time.ParseDuration(service.Grace); err != nil || grace <= shutdownBudget {
			t.Errorf("%s: stop_grace_period %q is not above %v", name, service.Grace, shutdownBudget)
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
			t.Errorf("%s: port http is %s, the door listens on %s", m.Metadata.Name, c.port("http"), listen)
		}
		grace, before := time.Duration(pod.Grace)*time.Second, time.Duration(c.Lifecycle.PreStop.Sleep.Seconds)*time.Second
		if grace <= before+shutdownBudget {
			t.Errorf("%s: terminationGracePeriodSeconds %v is not above %v + %v", m.Metadata.Name, grace, before, shutdownBudget)
		}
	}
	if deployments != 2 {
		t.Errorf("%d deployments, want ingress and worker", deployments)
	}
}

// TestDeployPages reads the page files that stand in compose.yaml and kubernetes.yaml, with secrets of its own.
func TestDeployPages(t *testing.T) {
	files := map[string]string{"compose.yaml": readCompose(t).Configs["pages"].Content}
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
		if pages, err := readPages(path); err != nil || len(pages) == 0 {
			t.Errorf("%s: %d pages, %v", name, len(pages), err)
		}
	}
}

// TestDeployVariables finds a flag for every variable that an operator is told of.
func TestDeployVariables(t *testing.T) {
	known := map[string]bool{queue.StreamJobs: true, queue.StreamRecords: true, queue.StreamDead: true, queue.BucketPages: true, queue.BucketPace: true}
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

// deployVariables sets what deploy/nats.conf takes from the environment.
func deployVariables(t *testing.T) {
	t.Setenv("NATS_NAME", "nats-1")
	t.Setenv("NATS_ROUTE_PASSWORD", "proute")
	t.Setenv("NATS_ROUTES", `["nats://route:proute@nats-1:6222", "nats://route:proute@nats-2:6222"]`)
	t.Setenv("NATS_INGRESS_PASSWORD", "pingress")
	t.Setenv("NATS_WORKER_PASSWORD", "pworker")
	t.Setenv("NATS_OPERATOR_PASSWORD", "poperator")
}

func TestDeployNATSConf(t *testing.T) {
	if err := build(); err != nil {
		t.Fatal(err)
	}
	deployVariables(t)
	inline := filepath.Join(t.TempDir(), "compose.conf")
	if err := os.WriteFile(inline, []byte(readCompose(t).Configs["nats"].Content), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, conf := range []string{"../../deploy/nats.conf", inline} {
		if out, err := exec.Command(filepath.Join(bin, "nats-server"), "-c", conf, "-t").CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", filepath.Base(conf), err, out)
		}
		if !strings.Contains(read(t, conf), "sync_interval: always") {
			t.Errorf("%s: a power cut would lose what was accepted", filepath.Base(conf))
		}
	}
}

// startDeployedNATS starts a server on which the roles have the rights of deploy/nats-users.conf, and returns its address.
func startDeployedNATS(t *testing.T) (address string) {
	t.Helper()
	deployVariables(t)
	dir, address := t.TempDir(), freeAddress(t)
	conf := fmt.Sprintf("listen: %q\njetstream { store_dir: %q }\ninclude nats-users.conf\n", address, dir)
	for name, content := range map[string]string{"nats.conf": conf, "nats-users.conf": read(t, "../../deploy/nats-users.conf")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := startProcess(t, "nats-server", "-c", filepath.Join(dir, "nats.conf"))
	eventually(t, "NATS", func() bool { return strings.Contains(server.log.String(), "Server is ready") })
	return address
}

// TestDeployNATSInboxes tries to listen to what others are answered, as the users of deploy/nats-users.conf: who has the
// password of the ingress must not read what workers fetch.
func TestDeployNATSInboxes(t *testing.T) {
	address := startDeployedNATS(t)
	const ingress, worker, admin = "_INBOX_brazier_ingress.>", "_INBOX_brazier_worker.>", "_INBOX_brazier_admin.>"
	for _, c := range []struct {
		user        string
		may, mayNot []string
	}{
		{"ingress", []string{ingress, "_INBOX_brazier_ingress.a.b"}, []string{worker, admin}},
		{"worker", []string{worker}, []string{ingress, admin}},
		{"operator", []string{ingress, worker, admin}, nil},
	} {
		refused := func(subject string) bool {
			nc, err := nats.Connect("nats://"+c.user+":p"+c.user+"@"+address, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if _, err := nc.SubscribeSync(subject); err != nil {
				t.Fatal(err)
			}
			if err := nc.FlushTimeout(patience); err != nil {
				t.Fatal(err)
			}
			return errors.Is(nc.LastError(), nats.ErrPermissionViolation)
		}
		for _, subject := range c.may {
			if refused(subject) {
				t.Errorf("the user %s cannot subscribe to %s", c.user, subject)
			}
		}
		if c.mayNot != nil {
			c.mayNot = append(c.mayNot, ">", "_INBOX.>", "_INBOX_brazier_*.>", "*.>", "brazier.>", "$JS.>")
		}
		for _, subject := range c.mayNot {
			if !refused(subject) {
				t.Errorf("the user %s can subscribe to %s", c.user, subject)
			}
		}
	}
}

// buryOverdue does what a worker does about a message of a page that no worker has.
func buryOverdue(t *testing.T, q *queue.Queue, address string) {
	t.Helper()
	operator, err := queue.Open(t.Context(), queue.Config{URL: "nats://operator:poperator@" + address})
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	job := &queue.Job{ID: queue.NewID(), Page: "42", Lane: queue.Bulk, Accepted: time.Now(), Expire: time.Now().Add(-time.Minute), Body: []byte("{}")}
	if _, err := operator.Publish(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	overdue := q.NewOverdue()
	if _, err := overdue.Claim(t.Context(), time.Second); err != nil { // the worker may have it
		t.Error(err)
	}
	err = overdue.Each(t.Context(), queue.PageLane{Page: job.Page, Lane: job.Lane}, func(d *queue.Delivery) {
		if err := d.Bury(t.Context(), queue.Reason{Class: "expired"}); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Error(err)
	}
	if b, err := operator.Backlog(t.Context(), job.Page); err != nil || b.Pending != 0 || b.Dead != 1 {
		t.Errorf("of a page that no worker has: backlog %+v, error %v", b, err)
	}
}

// TestDeployNATSUsers takes messages through a server on which the roles have the rights of deploy/nats-users.conf, and
// no others.
func TestDeployNATSUsers(t *testing.T) {
	address := startDeployedNATS(t)
	page := newTestPage("1029384756", "acme")
	fb, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{{ID: page.id, Token: page.token, AppSecret: page.secret}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	pages := "--pages=" + writePages(t, page)
	as := func(user string) string { return "--nats-url=nats://" + user + "@" + address }
	ingress := func(user string) *role {
		return startRole(t, "ingress", as(user), pages, "--listen=127.0.0.1:0", "--ops-listen=off", "--log-format=json")
	}

	wrong := ingress("ingress:wrong")
	early := ingress("ingress:pingress")
	said := early.log.await(t, "waiting")
	if said["what"] != "stream BRAZIER_JOBS" || !strings.Contains(said["reason"].(string), "it is not there, and this user may not make it") ||
		!strings.Contains(said["remedy"].(string), "brazier setup") {
		t.Errorf("a door that may not make streams says %v", said)
	}
	early.end()

	w := startRole(t, "worker", as("worker:pworker"), pages, "--graph-url="+fb.URL(), "--ops-listen=off", "--log-format=json")
	w.log.await(t, "started")
	door := ingress("ingress:pingress")
	at := door.log.await(t, "started")["address"].(string)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	// One is delivered, one fails at first, one cannot be reached, one fails again and again.
	for _, psid := range []string{"2003004005006007", "9000000500000001", "9000000551000001", "9000000002000001"} {
		if status, answer, err := post(client, at, page, message(psid, "Hello"), nil); err != nil || status != http.StatusAccepted {
			t.Fatalf("answer %d %s, error %v", status, answer, err)
		}
	}
	eventually(t, "two messages delivered, one dead", func() bool {
		return len(w.log.events("delivered")) == 2 && len(w.log.events("dead")) == 1
	})
	// What a worker does for its stats line.
	q, err := queue.Open(t.Context(), queue.Config{URL: "nats://worker:pworker@" + address, Role: "worker", Log: logFlags{Format: "json"}.logger(&w.log)})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if backlog, err := q.Backlog(t.Context(), page.id); err != nil || backlog.Pending != 1 || backlog.Dead != 1 || backlog.Oldest.IsZero() {
		t.Errorf("backlog %+v, error %v", backlog, err)
	}
	usePages(t, q, page.id)
	buryOverdue(t, q, address)
	for name, r := range map[string]*role{"worker": w, "ingress": door} {
		if refused := r.log.events("nats_error"); len(refused) > 0 {
			t.Errorf("%s: %v", name, refused)
		}
	}
	// Changes are for operators.
	if said := runSetup(t, exitFailed, as("ingress:pingress"), "--max-queue=2000000000"); !strings.Contains(said[len(said)-1], "operator") {
		t.Errorf("a door that changes a stream says %q", said)
	}
	lines(t, "setup", runSetup(t, exitOK, as("operator:poperator"), "--max-queue=2000000000"),
		"BRAZIER_JOBS: max_bytes was 10737418240, and is 2000000000")
	wrong.log.await(t, "stopped") // by itself
	if code := wrong.end(); code != exitFailed {
		t.Errorf("a wrong password: exit code %d, log\n%s", code, wrong.log.String())
	}
}

// usePages does what workers do to share a page.
func usePages(t *testing.T, q *queue.Queue, page string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, pace := range []*queue.Pace{q.Pace(page, "text"), q.Pace(page, "text")} { // the second reads what the first wrote
		if err := pace.Prepare(ctx); err != nil {
			t.Fatal(err)
		}
		if slots, err := pace.Reserve(ctx, 40, 1); err != nil || slots.N != 1 {
			t.Fatalf("slots %+v, error %v", slots, err)
		}
	}
	watching, end := context.WithCancel(ctx)
	last, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- q.WatchPages(watching, func(_ string, s queue.PageState) {
			if s.Class == "page" {
				close(last)
			}
		}, nil)
	}()
	// After a megabyte or two the server waits until the watcher says that it follows.
	state := queue.PageState{Reason: strings.Repeat("x", 50_000)}
	for i := range 100 {
		var err error
		if i == 99 {
			state.Class = "page"
		}
		if state, err = q.SetPageState(ctx, page, state); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-last:
	case <-ctx.Done():
		t.Error("the watch says nothing")
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if all, err := q.PageStates(ctx); err != nil || all[page].Class != "page" {
		t.Errorf("states %+v, error %v", all, err)
	}
	if state, err := q.PageState(ctx, page); err != nil || state.Class != "page" {
		t.Errorf("state %+v, error %v", state, err)
	}
}
