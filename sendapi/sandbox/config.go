package sandbox

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Defaults of Config and Page. The rates and the mark are Facebook's own figures (Messenger rate limits page); the
// durations are guesses, since Meta gives none.
const (
	defaultListen        = "127.0.0.1:0"
	defaultRate          = 300 // calls per second and page: text, links, reactions, stickers
	defaultMediaRate     = 10  // calls per second and page: audio and video
	defaultHighVolume    = 40  // messages per second and page
	defaultHighVolumeFor = 5 * time.Second
	defaultBlock         = 2 * time.Second
	defaultSlow          = 5 * time.Second
	defaultRecordLimit   = 1_000_000
)

// Off switches a limit of Page off.
const Off = -1

// controlOff, given as Config.Control, leaves the control listener out.
const controlOff = "off"

// Config configures a sandbox. The zero value works: free ports on the loopback interface, every token accepted.
type Config struct {
	// Listen is the address of the simulated Graph API. Default: a free port of 127.0.0.1.
	Listen string
	// Control is the address of the control listener. Default: a free port of 127.0.0.1; "off" means none.
	Control string
	// Pages are the pages that exist. None means AnyToken.
	Pages []Page
	// AnyToken accepts every token that belongs to no page of Pages, and makes a page of its own for it: the page that the path
	// names, or an id drawn from the token's hash where the path says me.
	AnyToken bool
	// AnyPage holds the limits of the pages that AnyToken makes. Its ID, Name, Token, AppSecret and App must be empty.
	AnyPage Page
	// Latency is the time between a call and its answer, plus or minus up to Jitter. The message is accepted before that time
	// passes, so a message whose caller ends the call in the meantime is in doubt, as with Facebook.
	Latency time.Duration
	Jitter  time.Duration
	// Slow is how long calls to the slow person (PSIDs that begin with 9000000005) take. Default: 5 s.
	Slow time.Duration
	// Seed makes the variations (order of fields, texts, ids) the same from run to run, call by call. Default: random.
	Seed uint64
	// AllowRemote lifts the refusal to listen on an address that other machines can reach.
	AllowRemote bool
	// RecordLimit is how many calls the record keeps, the oldest dropped first; counts, duplicates and Delivered stay
	// exact. A call takes about 110 bytes, each distinct delivered message about 50 more. Default: 1,000,000.
	RecordLimit int
	// Webhook is where the sandbox reports what people do. The zero value reports nothing.
	Webhook Webhook
}

// Page is a page that the sandbox simulates.
type Page struct {
	// ID is the page's id: digits.
	ID string
	// Name is shown to people. Default: the ID.
	Name string
	// Token is the page access token callers must present. Default DefaultToken(ID). What looks like a real token is refused.
	Token string
	// AppSecret, if set, requires a valid appsecret_proof of every call.
	AppSecret string
	// App is the name of the app in Webhook.Apps whose secret signs the page's webhooks. Default: the first.
	App string
	// Rate is the highest number of calls in any second; above it the page is blocked. Default: 300; Off.
	Rate int
	// MediaRate is the same for audio and video. Default: 10; Off.
	MediaRate int
	// HighVolume is the mark of messages per second above which a page may not stay for HighVolumeFor; then it is blocked
	// until its volume falls to the mark. Defaults: 40 and 5 s; Off.
	HighVolume    int
	HighVolumeFor time.Duration
	// Block is how long a page that exceeded Rate or MediaRate stays blocked after the last call it made. Default: 2 s.
	// From one minute on the usage header says how long; below, it says 0 minutes.
	Block time.Duration
}

// DefaultToken is the token of a Page that sets none.
func DefaultToken(pageID string) string { return "sandbox-token-" + pageID }

// pageIDFor is the id of the page that AnyToken makes for a token when the path says me: 16 digits drawn from its hash.
func pageIDFor(token string) string {
	sum := sha256.Sum256([]byte(token))
	return strconv.FormatUint(1e15+binary.BigEndian.Uint64(sum[:])%9e15, 10)
}

// resolved returns the configuration with defaults filled in, or an error that names the field at fault.
func (c Config) resolved() (Config, error) {
	c.Listen = cmp.Or(c.Listen, defaultListen)
	c.Control = cmp.Or(c.Control, defaultListen)
	c.Slow = cmp.Or(c.Slow, defaultSlow)
	c.RecordLimit = cmp.Or(c.RecordLimit, defaultRecordLimit)
	c.AnyToken = c.AnyToken || len(c.Pages) == 0
	if err := c.check(); err != nil {
		return c, err
	}
	var err error
	if c.Webhook, err = c.Webhook.resolved(c.AllowRemote); err != nil {
		return c, err
	}
	if c.AnyPage, err = c.AnyPage.resolved("AnyPage"); err != nil {
		return c, err
	}
	if c.Pages, err = resolvedPages(c.Pages); err != nil {
		return c, err
	}
	for i, p := range c.Pages {
		if c.Webhook.appIndex(p.App) < 0 {
			return c, FieldError{fmt.Sprintf("Pages[%d].App", i), fmt.Sprintf("must be the name of one of Webhook.Apps (got %q)", p.App)}
		}
	}
	return c, nil
}

func resolvedPages(given []Page) ([]Page, error) {
	pages := make([]Page, len(given))
	ids, tokens := map[string]int{}, map[string]int{}
	for i, p := range given {
		field := fmt.Sprintf("Pages[%d]", i)
		if p.ID == "" || !digits(p.ID) {
			return nil, FieldError{field + ".ID", fmt.Sprintf("must be digits (got %q)", p.ID)}
		}
		p, err := p.resolved(field)
		if err != nil {
			return nil, err
		}
		if j, taken := ids[p.ID]; taken {
			return nil, FieldError{field + ".ID", fmt.Sprintf("must differ from Pages[%d].ID", j)}
		}
		if j, taken := tokens[p.Token]; taken {
			return nil, FieldError{field + ".Token", fmt.Sprintf("must differ from Pages[%d].Token", j)}
		}
		ids[p.ID], tokens[p.Token] = i, i
		pages[i] = p
	}
	return pages, nil
}

func (c Config) check() error {
	for _, l := range []struct{ field, addr string }{{"Listen", c.Listen}, {"Control", c.Control}} {
		if l.field == "Control" && l.addr == controlOff {
			continue
		}
		if err := checkListen(l.addr, c.AllowRemote); err != nil {
			return FieldError{l.field, err.Error()}
		}
	}
	switch {
	case c.Slow < 0 || c.Slow > maxDelay:
		return FieldError{"Slow", fmt.Sprintf("must be between 0 and %s (got %s)", maxDelay, c.Slow)}
	case c.RecordLimit < 0:
		return FieldError{"RecordLimit", fmt.Sprintf("must not be negative (got %d)", c.RecordLimit)}
	case c.AnyPage.ID+c.AnyPage.Name+c.AnyPage.Token+c.AnyPage.AppSecret+c.AnyPage.App != "":
		return FieldError{"AnyPage", "must have limits only: no ID, Name, Token, AppSecret or App"}
	}
	return checkLatency(c.Latency, c.Jitter)
}

// maxDelay bounds every pause that can be configured, so that sums of them cannot overflow.
const maxDelay = 24 * time.Hour

func checkLatency(latency, jitter time.Duration) error {
	switch {
	case latency < 0 || latency > maxDelay:
		return FieldError{"Latency", fmt.Sprintf("must be between 0 and %s (got %s)", maxDelay, latency)}
	case jitter < 0 || jitter > maxDelay:
		return FieldError{"Jitter", fmt.Sprintf("must be between 0 and %s (got %s)", maxDelay, jitter)}
	}
	return nil
}

func (p Page) resolved(field string) (Page, error) {
	p.Name = cmp.Or(p.Name, p.ID)
	p.Token = cmp.Or(p.Token, DefaultToken(p.ID))
	p.Rate = cmp.Or(p.Rate, defaultRate)
	p.MediaRate = cmp.Or(p.MediaRate, defaultMediaRate)
	p.HighVolume = cmp.Or(p.HighVolume, defaultHighVolume)
	p.HighVolumeFor = cmp.Or(p.HighVolumeFor, defaultHighVolumeFor)
	p.Block = cmp.Or(p.Block, defaultBlock)
	switch {
	case looksReal(p.Token):
		return p, FieldError{field + ".Token", errRealToken.Error()}
	case p.Rate < Off:
		return p, FieldError{field + ".Rate", fmt.Sprintf("must be at least Off, %d (got %d)", Off, p.Rate)}
	case p.MediaRate < Off:
		return p, FieldError{field + ".MediaRate", fmt.Sprintf("must be at least Off, %d (got %d)", Off, p.MediaRate)}
	case p.HighVolume < Off:
		return p, FieldError{field + ".HighVolume", fmt.Sprintf("must be at least Off, %d (got %d)", Off, p.HighVolume)}
	case p.HighVolumeFor < 0:
		return p, FieldError{field + ".HighVolumeFor", fmt.Sprintf("must not be negative (got %s)", p.HighVolumeFor)}
	case p.Block < 0:
		return p, FieldError{field + ".Block", fmt.Sprintf("must not be negative (got %s)", p.Block)}
	}
	return p, nil
}

var errRealToken = errors.New("must not be a real page access token, and this one looks like one; use a made-up token")

// looksReal reports whether a token looks like one of Facebook's: EAA and many more characters.
func looksReal(token string) bool { return len(token) >= 40 && strings.HasPrefix(token, "EAA") }

// checkListen refuses addresses that other machines can reach: somebody who sends there by mistake would believe that people get
// the messages.
func checkListen(addr string, remote bool) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q: %w", addr, err)
	}
	if remote || isLoopback(host) {
		return nil
	}
	return fmt.Errorf("other machines can reach %q, and the sandbox answers as Facebook would but delivers nothing: use a loopback address, or allow remote callers", addr)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func digits(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// FieldError names the field of Config, Page, Webhook, Write or Fault that is at fault.
type FieldError struct {
	Field string // such as "Listen" or "Pages[0].Rate"
	Fault string // what is allowed and what was given
}

func (e FieldError) Error() string { return e.Field + ": " + e.Fault }
