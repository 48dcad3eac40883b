package braze

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Client calls one Braze workspace. It is safe for concurrent use and meant to be shared: its connections and what it learned of
// Braze's limits are.
type Client struct {
	cfg       Config
	url       string
	transport http.RoundTripper
	now       func() time.Time

	mu      sync.Mutex // guards what follows
	limits  limits
	learned time.Time // when limits were last made smaller
	took    bool      // Braze took a call since it last refused one without naming an object
}

// limits of one call.
type limits struct{ objects, bytes int }

// forgetAfter is how long a limit that was learned holds. Who was refused for another reason is not held to small calls for ever; who
// has a smaller limit by contract spends a call an hour on it, unless Config.MaxObjects says so.
const forgetAfter = time.Hour

// New checks the configuration and opens no connection. Close the client when done.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.resolved()
	c := &Client{cfg: cfg, url: cfg.URL + "/users/track", transport: cfg.Transport, now: time.Now}
	if c.transport == nil {
		c.transport = newTransport()
	}
	c.limits = c.widest()
	return c, nil
}

// Close closes the connections that are idle. Calls under way go on.
func (c *Client) Close() {
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Fingerprint tells a key from others and gives nothing of it away: 16 hexadecimal digits of a SHA-256.
func Fingerprint(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:8])
}

func (c *Client) widest() limits { return limits{c.cfg.MaxObjects, MaxBytes} }

// Limits returns how many objects and how many bytes of [Size] one call may hold, by the configuration and by what Braze refused.
func (c *Client) Limits() (objects, bytes int) {
	l := c.limit()
	return l.objects, l.bytes
}

func (c *Client) limit() limits {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.learned.IsZero() && c.now().Sub(c.learned) > forgetAfter {
		c.limits, c.learned = c.widest(), time.Time{}
	}
	return c.limits
}

// unlearn forgets what was learned.
func (c *Client) unlearn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limits, c.learned = c.widest(), time.Time{}
}

// learn makes limits smaller.
func (c *Client) learn(l limits) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limits = limits{max(1, min(c.limits.objects, l.objects)), max(1, min(c.limits.bytes, l.bytes))}
	c.learned = c.now()
}

// Track sends objects to POST /users/track, and returns what became of each, in their order, and a verdict on the workspace.
//
// Objects within [Client.Limits] make one call. More of them make several, one after the other, and so does a call that Braze refuses
// as it stands: it is sent again without the objects that Braze named, or in halves until the one to blame is alone. The first answer
// that is not about objects ends it; what was not sent yet is Again, NotTaken. Each call takes at most [Config.Timeout].
//
// An object that is refused alone without being named is Dead only if Braze took something else: in the same Track, or, for an object
// given alone, since the last such refusal. Otherwise it is Again, the verdict is Rejected, and nothing says whether the
// object or the workspace is at fault. Whoever tries again should do so with more than this object.
//
// No two Tracks that run at once may hold the same user: Braze may write them in either order.
func (c *Client) Track(ctx context.Context, objects []Object) ([]Result, Verdict) {
	t := &track{client: c, results: make([]Result, len(objects)), verdict: Verdict{Meaning: Taken}}
	items := make([]item, 0, len(objects))
	for i, o := range objects {
		body, err := o.encode(c.cfg.CreateAliases)
		if err == nil && len(body) > MaxBytes-envelope {
			t.results[i] = Result{Dead, TooLarge, "larger than Braze takes"}
			continue
		}
		if err != nil {
			t.results[i] = Result{Dead, Invalid, err.Error()}
			continue
		}
		items = append(items, item{at: i, object: o, body: body})
	}
	t.run(ctx, items)
	return t.results, t.verdict
}

// item is an object on its way.
type item struct {
	at     int // in the objects of Track
	object Object
	body   []byte
}

func (i item) array() string {
	if i.object.Event != nil {
		return "events"
	}
	return "attributes"
}

// envelope is what a body holds beside its objects and the commas between them.
const envelope = len(`{"attributes":[],"events":[]}`)

// Size returns what an object adds to the bytes of a call. An object that cannot be sent adds nothing.
func Size(o Object) int {
	body, err := o.encode(false)
	if err != nil {
		return 0
	}
	return len(body) + len(`,`)
}

// size returns the bytes of the call that these items make.
func size(items []item) int {
	n := envelope
	for _, it := range items {
		n += len(it.body) + len(`,`)
	}
	return n
}

// encode returns the body of the call that these items make, and where in it each of them is.
func encode(items []item) (body []byte, positions []position) {
	var b bytes.Buffer
	b.Grow(size(items))
	positions = make([]position, len(items))
	b.WriteByte('{')
	for _, array := range []string{"attributes", "events"} {
		n := 0
		for i, it := range items {
			if it.array() != array {
				continue
			}
			switch {
			case n > 0:
				b.WriteByte(',')
			case b.Len() > 1:
				b.WriteString(`,"` + array + `":[`)
			default:
				b.WriteString(`"` + array + `":[`)
			}
			b.Write(it.body)
			positions[i] = position{array, n}
			n++
		}
		if n > 0 {
			b.WriteByte(']')
		}
	}
	b.WriteByte('}')
	return b.Bytes(), positions
}

// fit returns how many of the items one call may hold: at least one.
func (l limits) fit(items []item) int {
	bytes := envelope
	for i, it := range items {
		bytes += len(it.body) + len(`,`)
		if i > 0 && (i == l.objects || bytes > l.bytes) {
			return i
		}
	}
	return len(items)
}

// halve returns the two halves of items.
func halve(items []item) (first, second []item) {
	n := (len(items) + 1) / 2
	return items[:n:n], slices.Clip(items[n:])
}
