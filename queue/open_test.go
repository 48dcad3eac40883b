package queue_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

// Open waits for a server that is not there yet, says so, and is done once it is.
func TestOpenWaits(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	core, lines := observer.New(zap.InfoLevel)
	opened := make(chan error, 1)
	go func() {
		q, err := queue.Open(within(t, patience), queue.Config{InProcess: m, Log: zap.New(core)}.WithWaits(soon, patience))
		if err == nil {
			defer q.Close()
			_, err = q.Publish(within(t, patience), job(acme, queue.Bulk))
		}
		opened <- err
	}()
	event := func(name string) *observer.ObservedLogs { return lines.FilterField(zap.String("event", name)) }
	eventually(t, "it is said that it waits", func() bool { return event("waiting").Len() > 0 })
	select {
	case err := <-opened:
		t.Fatalf("opened without a server: %v", err)
	default:
	}
	m.start()
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	equal(t, "lines", []int{event("waiting").Len(), event("connected").Len()}, []int{1, 1})
	waiting := event("waiting").All()[0]
	if waiting.Level != zap.WarnLevel || waiting.ContextMap()["what"] != "connection to NATS" {
		t.Errorf("said at level %v: %v", waiting.Level, waiting.ContextMap())
	}
}

// Open gives up with its context, and says what it waited for.
func TestOpenGivesUp(t *testing.T) {
	t.Parallel()
	_, err := queue.Open(within(t, 200*time.Millisecond), queue.Config{InProcess: newMachine(t)})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no NATS server") {
		t.Errorf("open: %v", err)
	}
}

func TestOpenRefusesConfig(t *testing.T) {
	t.Parallel()
	for field, cfg := range map[string]queue.Config{
		"Replicas":   {Replicas: 6},
		"Window":     {Window: time.Millisecond},
		"MaxBytes":   {MaxBytes: 1000},
		"DeadMaxAge": {DeadMaxAge: time.Second},
	} {
		if _, err := queue.Open(within(t, 2*patience), cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// Many processes may start at the same time on a fresh server.
func TestOpenTogether(t *testing.T) {
	t.Parallel()
	srv := queuetest.Server(t, "")
	opened := make(chan error)
	const processes = 8
	for range processes {
		go func() {
			q, err := queue.Open(within(t, patience), queue.Config{InProcess: srv})
			if err == nil {
				q.Close()
			}
			opened <- err
		}()
	}
	for range processes {
		if err := <-opened; err != nil {
			t.Error(err)
		}
	}
}

// Nothing that is said of an address tells its password, whatever the password is made of and whatever went wrong.
func TestPasswordIsNotTold(t *testing.T) {
	t.Parallel()
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := refusing.Addr().String()
	refusing.Close()
	for _, form := range []string{
		"nats://relay:%s@" + address,
		"nats://%s@" + address,
		"relay:%s@" + address,
		"nats://" + address + ", nats://relay:%s@" + address,
		"nats://relay:%s@127.0.0.1:port",
		"nats://relay:%s@[::1",
	} {
		for _, password := range []string{"hunter2", "hun,ter2", "hun ter2", "hun@ter2", "hun/ter2", "hun%zzter2", "hun:ter2", `hun"ter2`, "?hunter2"} {
			url := fmt.Sprintf(form, password)
			t.Run(url, func(t *testing.T) {
				t.Parallel()
				isNotTold(t, url)
			})
		}
	}
}

func isNotTold(t *testing.T, url string) {
	core, lines := observer.New(zap.DebugLevel)
	q, err := queue.Open(within(t, 50*time.Millisecond), queue.Config{URL: url, Log: zap.New(core)})
	if err == nil {
		q.Close()
		t.Fatalf("%s: opened", url)
	}
	said := []string{err.Error()}
	for _, l := range lines.All() {
		said = append(said, fmt.Sprint(l.Message, l.ContextMap()))
	}
	for _, s := range said {
		if strings.Contains(s, "ter2") || strings.Contains(s, "hun") {
			t.Errorf("for %s was said: %s", url, s)
		}
	}
}
