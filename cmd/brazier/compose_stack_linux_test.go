package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// stack is deploy/compose.yaml, run under a project name and at ports of its own.
type stack struct {
	*engine
	dir       string   // a copy of deploy, with secrets of its own
	command   []string // docker compose, or docker-compose
	env       []string
	project   string
	passwords map[string]string // of NATS, by the names of their variables
	ingresses []string          // their addresses
	control   string            // the sandbox's address
	subnet    string            // its first three numbers
	next      []string          // the variables with the images to which services are upgraded
	past      map[string][]byte // logs of containers that were replaced, by service
	lasted    time.Duration     // of the storm
}

func newStack(e *engine, image string) *stack {
	t := e.t
	t.Helper()
	s := &stack{engine: e, dir: t.TempDir(), project: fmt.Sprintf("brazier-test-%d", os.Getpid()), past: map[string][]byte{}}
	s.command = composeCommand(t)
	s.copyDeploy()
	s.subnet = fmt.Sprintf("198.18.%d", rand.IntN(256)) // of the block for tests of networks (RFC 2544)
	writeFile(t, filepath.Join(s.dir, "test.yaml"), s.override())
	s.ingresses, s.control = []string{stableAddress(t), stableAddress(t)}, stableAddress(t)
	port := func(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
	nats := s.natsImage()
	s.env = append(os.Environ(), "COMPOSE_FILE=compose.yaml:test.yaml", "COMPOSE_PROJECT_NAME="+s.project, "IMAGE="+image, "NATS_IMAGE="+nats,
		"INGRESS_1_PORT="+port(s.ingresses[0]), "INGRESS_2_PORT="+port(s.ingresses[1]), "SANDBOX_PORT="+port(s.control))
	for variable, name := range map[string]string{"IMAGE": image, "NATS_IMAGE": nats} {
		next := fmt.Sprintf("%s-%s:next", s.project, strings.ToLower(variable))
		s.run("tag", name, next)
		s.remove("image", "rm", "--force", next)
		s.next = append(s.next, variable+"="+next)
	}
	return s
}

// composeCommand is version 2 of Docker Compose, or 1.
func composeCommand(t *testing.T) []string {
	t.Helper()
	if exec.Command("docker", "compose", "version").Run() == nil {
		return []string{"docker", "compose"}
	}
	if _, err := exec.LookPath("docker-compose"); err != nil {
		t.Fatal(err)
	}
	return []string{"docker-compose"}
}

// copyDeploy copies what compose.yaml mounts, and makes secrets with the commands at its head.
func (s *stack) copyDeploy() {
	t := s.t
	t.Helper()
	for _, name := range []string{"compose.yaml", "nats.conf", "nats-users.conf", "compose/pages.yaml"} {
		path := filepath.Join(s.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		content := read(t, filepath.Join("../../deploy", name))
		// Of the rate there is enough for the load, and some to make up for what a fault held up.
		content = regexp.MustCompile(`(?m)rate: \d+`).ReplaceAllString(content, fmt.Sprint("rate: ", *containersRate*3/2))
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, commands, _ := strings.Cut(read(t, "../../deploy/compose.yaml"), "\n#   docker build")
	_, commands, _ = strings.Cut(commands, "\n")
	commands, _, _ = strings.Cut(commands, "\n#   docker compose up")
	secrets := exec.CommandContext(s.ctx, "sh", "-eu", "-c", strings.ReplaceAll(commands, "#   ", ""))
	secrets.Dir = s.dir
	if out, err := secrets.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, commands)
	}
	s.passwords = map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(NATS_\w+_PASSWORD)=(p[0-9a-f]{48})$`).FindAllStringSubmatch(read(t, filepath.Join(s.dir, ".env")), -1) {
		s.passwords[m[1]] = m[2]
	}
	if len(s.passwords) != 4 {
		t.Fatalf("the commands at the head of compose.yaml made %d passwords", len(s.passwords))
	}
}

// override is what the test changes: health is asked more often, workers log each message in doubt and do not count those of one second
// together, the sandbox allows the test's rate, addresses can be kept, and all has the label of what tests make.
func (s *stack) override() string {
	var b strings.Builder
	labels := fmt.Sprintf("labels: {%s: %q}", containersLabel, ownerOfContainers)
	b.WriteString("services:\n")
	for _, service := range slices.Concat(composeNATS, composeIngresses) {
		fmt.Fprintf(&b, "  %s: {healthcheck: {interval: 2s}, %s}\n", service, labels)
	}
	for _, worker := range composeWorkers {
		fmt.Fprintf(&b, "  %s: {healthcheck: {interval: 2s}, environment: {BRAZIER_LOG_LEVEL: debug}, %s}\n", worker, labels)
	}
	fmt.Fprintf(&b, "  sandbox: {command: [sandbox, --listen=0.0.0.0:9090, --control-listen=0.0.0.0:9091, --allow-remote, --page-rate=-1, --high-volume=-1], %s}\n", labels)
	fmt.Fprintf(&b, "networks: {default: {ipam: {config: [{subnet: %s.0/24}]}, %s}}\n", s.subnet, labels)
	b.WriteString("volumes:\n")
	for _, node := range composeNATS {
		fmt.Fprintf(&b, "  %s: {%s}\n", node, labels)
	}
	return b.String()
}

// natsImage is the image of compose.yaml. Where it is not there, this makes one of the server of go.mod, and of what compose.yaml uses of
// the official one.
func (s *stack) natsImage() string {
	s.t.Helper()
	name := regexp.MustCompile(`NATS_IMAGE:-(\S+)}`).FindStringSubmatch(read(s.t, "../../deploy/compose.yaml"))[1]
	if _, err := s.try("image", "inspect", name); err != nil {
		server := filepath.Join(s.t.TempDir(), "nats-server")
		build := exec.CommandContext(s.ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", server, "github.com/nats-io/nats-server/v2")
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // as the Dockerfile, which has compiled all of it but the command
		if out, err := build.CombinedOutput(); err != nil {
			s.t.Fatalf("%v\n%s", err, out)
		}
		s.load(name, []string{`ENTRYPOINT ["/bin/nats-server"]`}, func(r *rootfs) { r.programs("wget", server) })
	}
	return name
}

// raise starts everything, and has what it made removed when the test ends.
func (s *stack) raise(*chaos) {
	s.t.Helper()
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.printLogs()
		}
		down := exec.Command(s.command[0], append(s.command[1:], "down", "--volumes", "--remove-orphans", "--timeout", "1")...)
		down.Dir, down.Env = s.dir, s.env
		if out, err := down.CombinedOutput(); err != nil {
			s.t.Errorf("%v: %v\n%s", down.Args, err, out)
		}
	})
	s.compose("up", "--detach")
	for _, service := range slices.Concat(composeNATS, composeWorkers, composeIngresses) {
		s.await(service)
	}
}

// compose runs a command of Docker Compose.
func (s *stack) compose(args ...string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.ctx, s.command[0], append(slices.Clone(s.command[1:]), args...)...)
	cmd.Dir, cmd.Env = s.dir, s.env
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

// container is the id of a service's container, whatever its state.
func (s *stack) container(service string) string {
	s.t.Helper()
	id, err := s.find(service)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s *stack) find(service string) (id string, err error) {
	return s.try("ps", "--all", "--quiet", "--no-trunc", "--filter", "label=com.docker.compose.project="+s.project, "--filter", "label=com.docker.compose.service="+service)
}

// await returns when docker has found a service's container healthy.
func (s *stack) await(service string) {
	s.t.Helper()
	id := s.container(service)
	s.eventually(service+" is healthy", func() bool { return s.run("inspect", "--format", "{{.State.Health.Status}}", id) == "healthy" })
}

// works asks what docker asks for the health of a service, now.
func (s *stack) works(service string) bool {
	check := []string{"/brazier", "health"}
	if slices.Contains(composeNATS, service) {
		check = []string{"wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8222/healthz"}
	}
	_, err := s.try(append([]string{"exec", s.container(service)}, check...)...)
	return err == nil
}

// stop ends a service in good order, from then on its next image counts.
func (s *stack) stop(service string) {
	s.t.Helper()
	id := s.container(service)
	s.run("stop", "--time", "60", id)
	if code := s.run("inspect", "--format", "{{.State.ExitCode}}", id); code != "0" && !slices.Contains(composeNATS, service) {
		s.t.Errorf("%s: exit code %s", service, code)
	}
	s.past[service] = append(s.past[service], s.log(service)...)
	if s.next != nil {
		s.env, s.next = append(s.env, s.next...), nil
	}
}

// disconnect takes a service off the network. The function that it returns puts it back, with the address and the name that it had.
func (s *stack) disconnect(service string) (reconnect func()) {
	s.t.Helper()
	id, network := s.container(service), s.project+"_default"
	address, err := s.address(service)
	if err != nil {
		s.t.Fatal(err)
	}
	s.run("network", "disconnect", network, id)
	return func() { s.run("network", "connect", "--alias", service, "--ip", address, network, id) }
}

// address is that of a service in the network of the project, empty if it is not connected.
func (s *stack) address(service string) (string, error) {
	id, err := s.find(service)
	if err != nil {
		return "", err
	}
	return s.try("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", id)
}

// natsURL has the nodes that are connected, with an operator's rights.
func (s *stack) natsURL() (string, error) {
	var urls []string
	for _, node := range composeNATS {
		address, err := s.address(node)
		if err == nil && address != "" { // a node that is being replaced has none
			urls = append(urls, "nats://operator:"+s.passwords["NATS_OPERATOR_PASSWORD"]+"@"+address+":4222")
		}
	}
	return strings.Join(urls, ","), nil
}

// log is what a service's container has written.
func (s *stack) log(service string) []byte {
	s.t.Helper()
	out, err := exec.CommandContext(s.ctx, "docker", "logs", s.container(service)).CombinedOutput()
	if err != nil {
		s.t.Fatalf("log of %s: %v", service, err)
	}
	return out
}

// openLedger makes the ledger of what the containers have logged and the sandbox has recorded until now.
func (s *stack) openLedger(c *chaos) *ledger {
	s.t.Helper()
	j := newJournal()
	for _, service := range slices.Concat(composeWorkers, composeIngresses) {
		for _, log := range [][]byte{s.past[service], s.log(service)} {
			for line := range bytes.Lines(log) {
				j.note(service, string(bytes.TrimSuffix(line, []byte("\n"))))
			}
		}
	}
	c.fleet = &fleet{journal: j}
	resp, err := http.Get("http://" + s.control + "/calls?limit=100000000")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var calls []sandbox.Call
	if err := json.NewDecoder(resp.Body).Decode(&calls); err != nil {
		s.t.Fatal(err)
	}
	l := c.ledgerOf(calls)
	l.deadLetters = c.deadLetters()
	return l
}

// settle waits until nothing is left in the queue, and it is known what became of every message, or nothing has been left for a while.
func (s *stack) settle(c *chaos) *ledger {
	s.t.Helper()
	const grace = 10 * time.Second
	var idle time.Time // since then
	poll := time.NewTicker(2 * time.Second)
	defer poll.Stop()
	for deadline := time.Now().Add(2 * settleTimeout); time.Now().Before(deadline); <-poll.C { // a busy machine leaves a backlog
		switch {
		case !c.idle():
			idle = time.Time{}
			continue
		case idle.IsZero():
			idle = time.Now()
		}
		if l := s.openLedger(c); l.settled() || time.Since(idle) > grace {
			return l
		}
	}
	s.t.Errorf("something is left in the queue after %v", 2*settleTimeout)
	return s.openLedger(c)
}

// keepsSecrets looks for secrets in all logs.
func (s *stack) keepsSecrets() {
	s.t.Helper()
	secrets := []string{"any-token", "try-me"}
	for _, password := range s.passwords {
		secrets = append(secrets, password)
	}
	for _, service := range slices.Concat(composeNATS, composeWorkers, composeIngresses) {
		keepsSecrets(s.t, string(s.past[service])+string(s.log(service)), secrets...)
	}
}

// printLogs prints the end of each log.
func (s *stack) printLogs() {
	for _, service := range slices.Concat(composeNATS, composeWorkers, composeIngresses, []string{"sandbox"}) {
		id, err := exec.Command("docker", "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project="+s.project, "--filter", "label=com.docker.compose.service="+service).Output()
		if err != nil || len(id) == 0 {
			continue
		}
		out, _ := exec.Command("docker", "logs", "--tail", "30", strings.TrimSpace(string(id))).CombinedOutput()
		s.t.Logf("the end of the log of %s:\n%s", service, out)
	}
}
