package webhook_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/brazier-relay/brazier/sendapi/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	page  = "104857600000017"
	other = "104857600000024" // another page
	psid  = "7003141592653589"
)

// received is after everything in testdata.
var received = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// readLines calls do with each line of a file in testdata.
func readLines[T any](t testing.TB, file string, lines int, do func(T)) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	scanner := bufio.NewScanner(bytes.NewReader(data))
	scanner.Buffer(nil, len(data))
	for ; scanner.Scan(); n++ {
		var v T
		if err := json.Unmarshal(scanner.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		do(v)
	}
	if n != lines {
		t.Errorf("%s has %d lines, want %d", file, n, lines)
	}
}

func parse(t *testing.T, body string) webhook.Batch {
	t.Helper()
	b, err := webhook.Parse([]byte(body), received)
	if err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return b
}

// inEntry is a body with one entry of the page, with events in messaging.
func inEntry(events string) string {
	return `{"object":"page","entry":[{"id":"` + page + `","time":1795600000523,"messaging":[` + events + `]}]}`
}

// event is an event of the person with the page, with more members.
func event(members string) string {
	return `{"sender":{"id":"` + psid + `"},"recipient":{"id":"` + page + `"},` + members + `}`
}

// one parses a body and returns its only event.
func one(t *testing.T, body string) webhook.Event {
	t.Helper()
	b := parse(t, body)
	if len(b.Events) != 1 || len(b.Skipped) != 0 {
		t.Fatalf("%+v, want one event: %s", b, body)
	}
	return b.Events[0]
}

// none parses a body and returns the only thing skipped in it.
func none(t *testing.T, body string) webhook.Skipped {
	t.Helper()
	b := parse(t, body)
	if len(b.Events) != 0 || len(b.Skipped) != 1 {
		t.Fatalf("%+v, want one skipped: %s", b, body)
	}
	return b.Skipped[0]
}
