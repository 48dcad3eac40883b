package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

// fleet is the processes of a run, in the order in which they start.
type fleet struct {
	journal *journal
	members []*member
}

// member is one process over all its lifetimes: killed, it starts again under the same name, address and directory.
type member struct {
	name, kind    string
	program       string
	args          []string
	journal       *journal
	*lifetime     // the present one, or the last; nil before the first
	announcesSelf bool
	held          bool // until release starts it
}

// lifetime is a process from its start to its end.
type lifetime struct {
	cmd     *exec.Cmd
	log     *tap
	expects atomic.Bool   // the harness has told it to end
	ended   chan struct{} // closed when it has ended and all it wrote is in the journal
}

// add makes a member, which is not started yet. Roles say when they have started; a NATS server does not.
func (f *fleet) add(t *testing.T, kind, program string, args ...string) *member {
	t.Helper()
	n := 1
	for _, m := range f.members {
		if m.kind == kind {
			n++
		}
	}
	m := &member{name: fmt.Sprintf("%s-%d", kind, n), kind: kind, program: program, args: args, journal: f.journal, announcesSelf: program == "brazier"}
	f.members = append(f.members, m)
	t.Cleanup(func() {
		if m.lifetime != nil {
			m.kill()
		}
	})
	return m
}

// start starts every member that is not held, and returns when the roles among them have started.
func (f *fleet) start(t *testing.T) {
	t.Helper()
	f.startIf(t, func(m *member) bool { return !m.held })
}

// release starts those that were held, as start does.
func (f *fleet) release(t *testing.T) {
	t.Helper()
	f.startIf(t, func(m *member) bool { return m.held })
	for _, m := range f.members {
		m.held = false
	}
}

func (f *fleet) startIf(t *testing.T, which func(*member) bool) {
	t.Helper()
	for _, m := range f.members {
		if which(m) {
			m.start(t)
		}
	}
	for _, m := range f.members {
		if which(m) {
			m.await(t)
		}
	}
}

// stop ends every member in good order, the last one first. It returns what did not go well.
func (f *fleet) stop() (complaints []string) {
	for i := len(f.members) - 1; i >= 0; i-- {
		m := f.members[i]
		if code := m.terminate(); code != cli.ExitOK && m.announcesSelf {
			complaints = append(complaints, fmt.Sprintf("%s ended with code %d:\n%s", m.name, code, m.log.tail()))
		}
	}
	return complaints
}

func (m *member) start(t *testing.T) {
	t.Helper()
	l := &lifetime{cmd: exec.Command(filepath.Join(bin, m.program), m.args...), ended: make(chan struct{})}
	l.log = &tap{journal: m.journal, name: m.name, started: make(chan struct{})}
	l.cmd.Stdout, l.cmd.Stderr = l.log, l.log
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.lifetime = l
	go func() {
		defer close(l.ended)
		err := l.cmd.Wait()
		if !l.expects.Load() {
			m.journal.complain(fmt.Sprintf("%s ended by itself, %v:\n%s", m.name, err, l.log.tail()))
		}
	}()
}

// await returns when the member says that it has started. Another one that ended by itself may be why it does not.
func (m *member) await(t *testing.T) {
	t.Helper()
	if !m.announcesSelf {
		return
	}
	select {
	case <-m.log.started:
	case <-m.ended:
		t.Fatalf("%s ended before it had started:\n%s", m.name, m.log.tail())
	case <-time.After(time.Minute):
		t.Fatalf("%s did not start:\n%s\n%s", m.name, m.log.tail(), m.journal.complained())
	}
}

// kill ends the process as kill -9 does, and returns when it is gone.
func (m *member) kill() {
	m.expects.Store(true)
	_ = m.cmd.Process.Kill() // it may have ended by itself
	<-m.ended
}

// terminate asks the process to end and returns its exit code.
func (m *member) terminate() int { return m.end(syscall.SIGTERM) }

func (m *member) end(by os.Signal) int {
	m.expects.Store(true)
	_ = m.cmd.Process.Signal(by)
	<-m.ended
	return m.cmd.ProcessState.ExitCode()
}

func (m *member) signal(s os.Signal) { _ = m.cmd.Process.Signal(s) }

// logLine is what a process logged of a message.
type logLine struct {
	at             time.Time
	process, event string
	mid            string // Facebook's id of what was delivered
	text           string
}

// journal is what all processes of a run have logged, in all their lifetimes.
type journal struct {
	mu         sync.Mutex
	byID       map[string][]logLine
	events     map[string]int
	complaints []string // processes that ended by themselves
}

func newJournal() *journal { return &journal{byID: map[string][]logLine{}, events: map[string]int{}} }

func (j *journal) note(process, text string) (event string) {
	var l struct {
		TS             time.Time
		Event, ID, MID string
	}
	if json.Unmarshal([]byte(text), &l) != nil || l.Event == "" {
		return "" // a NATS server's, or half a line of a process that was killed
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events[l.Event]++
	if l.ID != "" {
		j.byID[l.ID] = append(j.byID[l.ID], logLine{l.TS, process, l.Event, l.MID, text})
	}
	return l.Event
}

func (j *journal) complain(of string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.complaints = append(j.complaints, of)
}

func (j *journal) complained() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.complaints)
}

// about returns the lines of a message, in the order of time as far as one process wrote them.
func (j *journal) about(id string) []logLine {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.byID[id]
}

// tap passes what one lifetime of a process writes to the journal, line by line, and keeps the end of it for complaints.
type tap struct {
	journal *journal
	name    string
	started chan struct{} // closed when the process has logged that it started

	mu     sync.Mutex
	rest   []byte // of a line that is not whole yet
	recent [20]string
	lines  int
}

func (p *tap) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest = append(p.rest, b...)
	for {
		whole, rest, found := bytes.Cut(p.rest, []byte("\n"))
		if !found {
			return len(b), nil
		}
		text := string(whole)
		p.rest = rest
		p.recent[p.lines%len(p.recent)] = text
		p.lines++
		if p.journal.note(p.name, text) == "started" {
			close(p.started)
		}
	}
}

// tail returns the last lines.
func (p *tap) tail() (lines string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.recent {
		if text := p.recent[(p.lines+i)%len(p.recent)]; text != "" {
			lines += "    " + text + "\n"
		}
	}
	return lines
}

var ports struct {
	sync.Mutex
	given map[int]bool
}

// stableAddress is a loopback address that a process can come back to after it was killed. It lies below the ports that
// the system gives to outgoing connections, so that none of those takes it in between.
func stableAddress(t *testing.T) string {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for range 1000 {
		port := 20000 + rand.IntN(10000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil || ports.given[port] {
			if err == nil {
				l.Close()
			}
			continue
		}
		l.Close()
		if ports.given == nil {
			ports.given = map[int]bool{}
		}
		ports.given[port] = true
		return l.Addr().String()
	}
	t.Fatal("no free port")
	return ""
}
