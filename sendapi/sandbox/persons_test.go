package sandbox

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestPersons sends the same message twice to a person of each kind.
func TestPersons(t *testing.T) {
	const cut = "cut"
	tests := map[string]struct {
		first, second string // cut, or status and code
		accepted      int
	}{
		"9000000551": {"400 551/1545041", "400 551/1545041", 0},
		"9000000047": {"400 551/1893047", "400 551/1893047", 0},
		"9000000200": {"403 200/1545041", "403 200/1545041", 0},
		"9000000278": {"400 10/2018278", "400 10/2018278", 0},
		"9000000065": {"400 10/2018065", "400 10/2018065", 0},
		"9000000001": {"400 100/2018001", "400 100/2018001", 0},
		"9000000108": {"400 10/2018108", "400 10/2018108", 0},
		"9000000300": {"400 10/2018300", "400 10/2018300", 0},
		"9000000321": {"400 2018321/0", "400 2018321/0", 0},
		"9000000338": {"400 613/2018338", "400 613/2018338", 0},
		"9000000100": {"400 100/0", "400 100/0", 0},
		"9000000500": {"500 2/0", "200", 1},
		"9000000400": {"400 2/0", "200", 1},
		"9000000011": {"400 -1/0", "200", 1},
		"9000000502": {"502", "200", 1},
		"9000000002": {"400 2/0|500 2/0", "400 2/0|500 2/0", 0},
		"9000000444": {cut, "200", 2},
		"9000000445": {cut, "200", 1},
		"9000000046": {"400 1/1357046", "400 1/1357046", 2},
		"9000000005": {"200", "200", 2},
	}
	if len(tests) != len(persons) {
		t.Errorf("%d persons, %d tests", len(persons), len(tests))
	}
	for _, p := range persons {
		t.Run(p.prefix, func(t *testing.T) {
			t.Parallel()
			want, ok := tests[p.prefix]
			if !ok {
				t.Fatal("no test for this person")
			}
			r := start(t, Config{Slow: time.Millisecond})
			id := p.prefix + "123456"
			for attempt, want := range []string{want.first, want.second} {
				got := cut
				if rep, err := r.trySend(id, "hello"); err == nil {
					got = rep.code()
				}
				if !strings.Contains("|"+want+"|", "|"+got+"|") {
					t.Errorf("attempt %d: %s, want %s", attempt+1, got, want)
				}
			}
			if n := r.Delivered(pageIDFor("token"), id, textDigest(t, "hello")); n != want.accepted {
				t.Errorf("delivered %d times, want %d", n, want.accepted)
			}
			if n := r.Counts().Accepted; n != want.accepted {
				t.Errorf("%d accepted, want %d", n, want.accepted)
			}
		})
	}
}

// A person that fails the first attempt does so for each message.
func TestFirstAttemptOfEachMessage(t *testing.T) {
	r := start(t, Config{})
	for _, text := range []string{"one", "two"} {
		if rep := r.send("9000000500", text); rep.status != http.StatusInternalServerError {
			t.Errorf("%s: first attempt %s", text, rep.code())
		}
	}
	for _, text := range []string{"two", "one"} {
		if rep := r.send("9000000500", text); rep.status != http.StatusOK {
			t.Errorf("%s: second attempt %s", text, rep.code())
		}
	}
}

func TestPersonsArePlausibleAndDistinct(t *testing.T) {
	for i, p := range persons {
		if len(p.prefix) != 10 || !digits(p.prefix) {
			t.Errorf("prefix %q is not ten digits", p.prefix)
		}
		for _, q := range persons[i+1:] {
			if p.prefix == q.prefix {
				t.Errorf("prefix %q twice", p.prefix)
			}
		}
	}
}

// What Facebook does not promise must vary, or somebody will rely on it.
func TestAnswersVary(t *testing.T) {
	r := start(t, Config{Seed: 1, AnyPage: Page{Rate: Off, HighVolume: Off}})
	var orders, messages, transient = map[string]bool{}, map[string]bool{}, map[bool]bool{}
	ids, traces := map[string]bool{}, map[string]bool{}
	for range 200 {
		bad := r.send("9000000278", "hello")
		orders[bad.raw[:12]] = true
		if bad.body.Error.Type != "OAuthException" { // whose fault it is may hang on the type
			t.Fatalf("type %q", bad.body.Error.Type)
		}
		messages[bad.body.Error.Message] = true
		traces[bad.body.Error.Trace] = true
		transient[r.send("9000000002", "hello").body.Error.Transient == nil] = true
		good := r.send("1", "hello")
		orders[good.raw[:5]] = true
		ids[good.body.MessageID[:2]] = true
		if !strings.Contains(good.body.MessageID, "sandbox") {
			t.Fatalf("message id %q does not say sandbox", good.body.MessageID)
		}
	}
	for what, n := range map[string]int{"order of fields": len(orders), "wordings": len(messages),
		"forms of message id": len(ids), "presence of is_transient": len(transient)} {
		if n < 2 {
			t.Errorf("%s: always the same", what)
		}
	}
	if len(traces) != 200 {
		t.Errorf("%d trace ids in 200 errors", len(traces))
	}
}
