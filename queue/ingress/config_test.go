package ingress

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/brazier-relay/brazier/queue"
)

// TestDefaults compares the defaults with deploy/README.md: how long a request waits for the queue, and the table of limits.
func TestDefaults(t *testing.T) {
	t.Parallel()
	got := Config{}.withDefaults()
	want := Config{
		Listen:          "127.0.0.1:8080",
		MaxBody:         256 << 10,
		Wait:            40 * time.Second,
		MaxWaiting:      8192,
		MaxWaitingBytes: 64 << 20,
		MaxConnections:  16384,

		MaxWebhookBody:     4 << 20,
		MaxWebhooksWaiting: 512,
		MaxWebhookBytes:    32 << 20,

		HeaderTimeout: 10 * time.Second,
		BodyTimeout:   30 * time.Second,
		AnswerTimeout: 15 * time.Second,
		IdleTimeout:   2 * time.Minute,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Config{}, "Log"), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("defaults (-ownStatuses +code):\n%s", diff)
	}
	if waiting := DefaultMaxWaiting + DefaultMaxWebhooksWaiting; DefaultMaxConnections <= waiting {
		t.Errorf("%d connections leave none for a 503 beside %d waiting requests and webhooks", DefaultMaxConnections, waiting)
	}
}

func noSecrets() ([][]byte, error) { return nil, nil }

func TestValidate(t *testing.T) {
	t.Parallel()
	key := [][sha256.Size]byte{sha256.Sum256([]byte("key"))}
	one := func(p Page) Config { return Config{Pages: []Page{p}} }
	for _, c := range []struct {
		name string
		cfg  Config
		want []string // field and fault of each error
	}{
		{"zero value", Config{}, nil},
		{"listen", Config{Listen: "nowhere"}, []string{`Listen: must be HOST:PORT (got "nowhere")`}},
		{"port", Config{Listen: ":65536"}, []string{`Listen: must have a port between 0 and 65535 (got ":65536")`}},
		{"any port", Config{Listen: "[::1]:0"}, nil},
		{"body", Config{MaxBody: -1}, []string{"MaxBody: must not be negative (got -1)"}},
		{"waiting", Config{MaxWaiting: -1}, []string{"MaxWaiting: must not be negative (got -1)"}},
		{"connections", Config{MaxConnections: -1}, []string{"MaxConnections: must not be negative (got -1)"}},
		{"bytes as many as the largest body", Config{MaxBody: 10, MaxWaitingBytes: 10}, nil},
		{"bytes under the largest body", Config{MaxBody: 10, MaxWaitingBytes: 9},
			[]string{"MaxWaitingBytes: must be at least the size of the largest body, 10, or that body is never accepted (got 9)"}},
		{"longest wait", Config{Wait: MaxWait}, nil},
		{"wait beyond it", Config{Wait: MaxWait + 1}, []string{"Wait: must be at most 1m20s, since Braze abandons a request after 90s (got 1m20.000000001s)"}},
		{"webhooks", Config{MaxWebhookBody: -1, MaxWebhooksWaiting: -1},
			[]string{"MaxWebhookBody: must not be negative (got -1)", "MaxWebhooksWaiting: must not be negative (got -1)"}},
		{"bytes under the largest webhook", Config{MaxWebhookBody: 10, MaxWebhookBytes: 9},
			[]string{"MaxWebhookBytes: must be at least the size of the largest webhook, 10, or that webhook is never accepted (got 9)"}},
		{"apps", Config{Apps: []App{{Name: "a", Secrets: noSecrets, Pages: []string{"1", "2"}}, {Name: "b", Secrets: noSecrets, Pages: []string{"1"}}}}, nil},
		{"app without anything", Config{Apps: []App{{}}}, []string{`Apps: app "": Name is required`, `Apps: app "": Secrets is required`}},
		{"app twice", Config{Apps: []App{{Name: "a", Secrets: noSecrets}, {Name: "a", Secrets: noSecrets}}}, []string{`Apps: app "a": Name is used twice: give each app a name of its own`}},
		{"page of an app", Config{Apps: []App{{Name: "a", Secrets: noSecrets, Pages: []string{"acme"}}}},
			[]string{`Apps: app "a": Pages must be Facebook page ids, digits only (got "acme")`}},
		{"times", Config{Wait: -1, HeaderTimeout: -1, BodyTimeout: -1, AnswerTimeout: -1, IdleTimeout: -1}, []string{
			"Wait: must not be negative (got -1ns)", "HeaderTimeout: must not be negative (got -1ns)", "BodyTimeout: must not be negative (got -1ns)",
			"AnswerTimeout: must not be negative (got -1ns)", "IdleTimeout: must not be negative (got -1ns)"}},
		{"page", one(Page{ID: "1", Expire: queue.MaxExpire, QueueShare: 1, Keys: key}), nil},
		{"page id", one(Page{ID: "acme"}), []string{`Pages: page "acme": ID must be a Facebook page id, digits only (got "acme")`}},
		{"page without id", one(Page{Name: "acme"}), []string{`Pages: page "acme": ID must be a Facebook page id, digits only (got "")`}},
		{"expire", one(Page{ID: "1", Expire: queue.MaxExpire + 1}), []string{`Pages: page "1": Expire must be above 0 and up to 168h0m0s (got 168h0m0.000000001s)`}},
		{"expire in the past", one(Page{ID: "1", Expire: -1}), []string{`Pages: page "1": Expire must be above 0 and up to 168h0m0s (got -1ns)`}},
		{"share", one(Page{ID: "1", QueueShare: 1.5}), []string{`Pages: page "1": QueueShare must be above 0 and up to 1 (got 1.5)`}},
		{"key of two pages", Config{Pages: []Page{{ID: "1", Name: "acme", Keys: key}, {ID: "2", Keys: key}}},
			[]string{`Pages: page "2": Keys: one of the keys belongs to page "acme" already; a key names one page`}},
		{"several", Config{MaxWaiting: -1, Wait: -1, Pages: []Page{{ID: "a"}, {ID: "b"}}}, []string{
			"MaxWaiting: must not be negative (got -1)", "Wait: must not be negative (got -1ns)",
			`Pages: page "a": ID must be a Facebook page id, digits only (got "a")`, `Pages: page "b": ID must be a Facebook page id, digits only (got "b")`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.cfg.Validate()
			var got []string
			if err != nil {
				for _, fault := range err.(interface{ Unwrap() []error }).Unwrap() {
					bad, ok := errors.AsType[*ConfigError](fault)
					if !ok || !strings.HasPrefix(fault.Error(), "ingress: ") {
						t.Fatalf("%v is no *ConfigError, or does not name the package", fault)
					}
					got = append(got, bad.Field+": "+bad.Fault)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}
