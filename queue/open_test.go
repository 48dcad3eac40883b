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
		q, err := queue.Open(within(t, testTimeout), queue.Config{InProcess: m, Log: zap.New(core)}.WithWaits(soon, testTimeout))
		if err == nil {
			defer q.Close()
			_, err = q.Publish(within(t, testTimeout), job(acme, queue.Bulk))
		}
		opened <- err
	}()
	event := func(name string) *observer.ObservedLogs { return lines.FilterField(zap.String("event", name)) }
	eventually(t, "the wait is logged", func() bool { return event("waiting").Len() > 0 })
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
		t.Errorf("logged at level %v: %v", waiting.Level, waiting.ContextMap())
	}
}

// Open ends with its context, and its error tells what it waited for.
func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	_, err := queue.Open(within(t, 200*time.Millisecond), queue.Config{InProcess: newMachine(t)})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no NATS server") {
		t.Errorf("open: %v", err)
	}
}

// Each setting at its limits and beyond: Open refuses what Validate refuses, and names the field.
func TestConfig(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg   queue.Config
		field string // empty: the setting can be used
	}{
		"defaults":         {queue.Config{}, ""},
		"addresses":        {queue.Config{URL: "nats://a:4222, tls://user:secret@b:4222,c"}, ""},
		"no port":          {queue.Config{URL: "nats://a:port"}, "URL"},
		"no host":          {queue.Config{URL: "nats://a:4222,nats://[::1"}, "URL"},
		"upper case":       {queue.Config{Role: "Ingress"}, "Role"},
		"five replicas":    {queue.Config{Replicas: 5}, ""},
		"six replicas":     {queue.Config{Replicas: 6}, "Replicas"},
		"negative":         {queue.Config{Replicas: -1}, "Replicas"},
		"shortest window":  {queue.Config{Window: time.Second}, ""},
		"short window":     {queue.Config{Window: time.Second - 1}, "Window"},
		"negative window":  {queue.Config{Window: -time.Hour}, "Window"},
		"smallest queue":   {queue.Config{MaxBytes: 1 << 20}, ""},
		"small queue":      {queue.Config{MaxBytes: 1<<20 - 1}, "MaxBytes"},
		"shortest age":     {queue.Config{DeadMaxAge: time.Minute}, ""},
		"short age":        {queue.Config{DeadMaxAge: time.Minute - 1}, "DeadMaxAge"},
		"existing, no age": {queue.Config{Existing: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.cfg.Validate()
			if c.field == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if bad, ok := errors.AsType[*queue.ConfigError](err); !ok || bad.Field != c.field {
				t.Errorf("validate: %v; want a ConfigError of %s", err, c.field)
			}
			q, err := queue.Open(within(t, 2*testTimeout), c.cfg)
			if bad, ok := errors.AsType[*queue.ConfigError](err); !ok || bad.Field != c.field {
				t.Errorf("open: %v; want a ConfigError of %s", err, c.field)
			}
			if err == nil {
				q.Close()
			}
		})
	}
	_, err := queue.Open(t.Context(), queue.Config{Role: "Ingress", Replicas: 9})
	if want := "queue: Role: must be lower-case letters (got \"Ingress\")\nqueue: Replicas: must be between 1 and 5 (got 9)"; err == nil || err.Error() != want {
		t.Errorf("open: %v; want %s", err, want)
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
			q, err := queue.Open(within(t, testTimeout), queue.Config{InProcess: srv})
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

// No error and no log line about an address holds its password, whatever the password is made of and whatever went wrong.
func TestPasswordIsHidden(t *testing.T) {
	t.Parallel()
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := refusing.Addr().String()
	refusing.Close()
	for _, form := range []string{
		"nats://brazier:%s@" + address,
		"nats://%s@" + address,
		"brazier:%s@" + address,
		"nats://" + address + ", nats://brazier:%s@" + address,
		"nats://brazier:%s@127.0.0.1:port",
		"nats://brazier:%s@[::1",
	} {
		for _, password := range []string{"hunter2", "hun,ter2", "hun ter2", "hun@ter2", "hun/ter2", "hun%zzter2", "hun:ter2", `hun"ter2`, "?hunter2"} {
			url := fmt.Sprintf(form, password)
			t.Run(url, func(t *testing.T) {
				t.Parallel()
				hidesPassword(t, url)
			})
		}
	}
}

func hidesPassword(t *testing.T, url string) {
	core, lines := observer.New(zap.DebugLevel)
	q, err := queue.Open(within(t, 50*time.Millisecond), queue.Config{URL: url, Log: zap.New(core)})
	if err == nil {
		q.Close()
		t.Fatalf("%s: opened", url)
	}
	texts := []string{err.Error()}
	for _, l := range lines.All() {
		texts = append(texts, fmt.Sprint(l.Message, l.ContextMap()))
	}
	for _, s := range texts {
		if strings.Contains(s, "ter2") || strings.Contains(s, "hun") {
			t.Errorf("for %s: %s", url, s)
		}
	}
}
