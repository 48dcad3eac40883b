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
	DefaultListen        = "127.0.0.1:0"
	DefaultRate          = 300 // calls per second and page: text, links, reactions, stickers
	DefaultMediaRate     = 10  // calls per second and page: audio and video
	DefaultHighVolume    = 40  // messages per second and page
	DefaultHighVolumeFor = 5 * time.Second
	DefaultBlock         = 2 * time.Second
	DefaultSlow          = 5 * time.Second
	DefaultRecordLimit   = 1_000_000
)

// Off switches a limit of Page off.
const Off = -1

// controlOff, given as Config.Control, leaves the control listener out.
const controlOff = "off"

// Config says how a sandbox behaves. The zero value works: free ports on the loopback interface, every token accepted.
type Config struct {
	// Listen is the address of the simulated Graph API. Default DefaultListen.
	Listen string
	// Control is the address of the control listener. Default DefaultListen; "off" means none.
	Control string
	// Pages are the pages that exist. None means AnyToken.
	Pages []Page
	// AnyToken accepts every token that belongs to no page of Pages, and makes a page of its own for it: the page that the path
	// names; PageIDFor(token) as long as the path only says me.
	AnyToken bool
	// AnyPage holds the limits of the pages that AnyToken makes. Its ID, Name, Token and AppSecret must be empty.
	AnyPage Page
	// Latency passes between a call and its answer, give or take up to Jitter. The message is accepted before it passes, so
	// a caller that gives up in the meantime is left in doubt, as with Facebook.
	Latency time.Duration
	Jitter  time.Duration
	// Slow is how long the slow person of Persons takes to answer. Default DefaultSlow.
	Slow time.Duration
	// Seed makes the variations (order of fields, wording, ids) the same from run to run, call by call. Default: random.
	Seed uint64
	// AllowRemote lifts the refusal to listen on an address that other machines can reach.
	AllowRemote bool
	// RecordLimit is how many calls the record keeps, the oldest dropped first; counts, duplicates and Delivered go on being
	// exact. A call takes about 110 bytes, each distinct delivered message about 50 more. Default DefaultRecordLimit.
	RecordLimit int
}

// Page is a page that the sandbox simulates.
type Page struct {
	// ID is the page's id: digits.
	ID string
	// Name is for people. Default: the ID.
	Name string
	// Token is the page access token callers must present. Default DefaultToken(ID). What looks like a real token is refused.
	Token string
	// AppSecret, if set, makes every call prove that it knows it with a valid appsecret_proof.
	AppSecret string
	// Rate is the highest number of calls in any second; above it the page is blocked. Default DefaultRate; Off.
	Rate int
	// MediaRate is the same for audio and video. Default DefaultMediaRate; Off.
	MediaRate int
	// HighVolume is the mark of messages per second above which a page may not stay for HighVolumeFor; then it is blocked
	// until its volume falls to the mark. Defaults DefaultHighVolume and DefaultHighVolumeFor; Off.
	HighVolume    int
	HighVolumeFor time.Duration
	// Block is how long a page that exceeded Rate or MediaRate stays blocked after the last call it made. Default DefaultBlock.
	// From one minute on the usage header says how long; below, it says 0 minutes.
	Block time.Duration
}

// DefaultToken is the token of a Page that sets none.
func DefaultToken(pageID string) string { return "sandbox-token-" + pageID }

// PageIDFor is the id of the page that AnyToken makes for a token when the path says me: 16 digits drawn from its hash.
func PageIDFor(token string) string {
	sum := sha256.Sum256([]byte(token))
	return strconv.FormatUint(1e15+binary.BigEndian.Uint64(sum[:])%9e15, 10)
}

// resolved returns the configuration with defaults filled in, or an error that names the field at fault.
func (c Config) resolved() (Config, error) {
	c.Listen = cmp.Or(c.Listen, DefaultListen)
	c.Control = cmp.Or(c.Control, DefaultListen)
	c.Slow = cmp.Or(c.Slow, DefaultSlow)
	c.RecordLimit = cmp.Or(c.RecordLimit, DefaultRecordLimit)
	c.AnyToken = c.AnyToken || len(c.Pages) == 0
	if err := c.check(); err != nil {
		return c, err
	}
	var err error
	if c.AnyPage, err = c.AnyPage.resolved("AnyPage"); err != nil {
		return c, err
	}
	c.Pages, err = resolvedPages(c.Pages)
	return c, err
}

func resolvedPages(given []Page) ([]Page, error) {
	pages := make([]Page, len(given))
	ids, tokens := map[string]int{}, map[string]int{}
	for i, p := range given {
		field := fmt.Sprintf("Pages[%d]", i)
		if p.ID == "" || !digits(p.ID) {
			return nil, fieldError{field + ".ID", fmt.Sprintf("%q is not a string of digits", p.ID)}
		}
		p, err := p.resolved(field)
		if err != nil {
			return nil, err
		}
		if j, taken := ids[p.ID]; taken {
			return nil, fieldError{field + ".ID", fmt.Sprintf("same as Pages[%d].ID", j)}
		}
		if j, taken := tokens[p.Token]; taken {
			return nil, fieldError{field + ".Token", fmt.Sprintf("same as Pages[%d].Token", j)}
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
			return fieldError{l.field, err.Error()}
		}
	}
	switch {
	case c.Slow < 0 || c.Slow > maxDelay:
		return fieldError{"Slow", fmt.Sprintf("%s is not between 0 and %s", c.Slow, maxDelay)}
	case c.RecordLimit < 0:
		return fieldError{"RecordLimit", "is negative"}
	case c.AnyPage.ID+c.AnyPage.Name+c.AnyPage.Token+c.AnyPage.AppSecret != "":
		return fieldError{"AnyPage", "takes limits only, no ID, Name, Token or AppSecret"}
	}
	return checkLatency(c.Latency, c.Jitter)
}

// maxDelay bounds every pause that can be configured, so that sums of them cannot overflow.
const maxDelay = 24 * time.Hour

func checkLatency(latency, jitter time.Duration) error {
	switch {
	case latency < 0 || latency > maxDelay:
		return fieldError{"Latency", fmt.Sprintf("%s is not between 0 and %s", latency, maxDelay)}
	case jitter < 0 || jitter > maxDelay:
		return fieldError{"Jitter", fmt.Sprintf("%s is not between 0 and %s", jitter, maxDelay)}
	}
	return nil
}

func (p Page) resolved(field string) (Page, error) {
	p.Name = cmp.Or(p.Name, p.ID)
	p.Token = cmp.Or(p.Token, DefaultToken(p.ID))
	p.Rate = cmp.Or(p.Rate, DefaultRate)
	p.MediaRate = cmp.Or(p.MediaRate, DefaultMediaRate)
	p.HighVolume = cmp.Or(p.HighVolume, DefaultHighVolume)
	p.HighVolumeFor = cmp.Or(p.HighVolumeFor, DefaultHighVolumeFor)
	p.Block = cmp.Or(p.Block, DefaultBlock)
	switch {
	case looksReal(p.Token):
		return p, fieldError{field + ".Token", errRealToken.Error()}
	case p.Rate < Off:
		return p, fieldError{field + ".Rate", "below Off"}
	case p.MediaRate < Off:
		return p, fieldError{field + ".MediaRate", "below Off"}
	case p.HighVolume < Off:
		return p, fieldError{field + ".HighVolume", "below Off"}
	case p.HighVolumeFor < 0:
		return p, fieldError{field + ".HighVolumeFor", "is negative"}
	case p.Block < 0:
		return p, fieldError{field + ".Block", "is negative"}
	}
	return p, nil
}

var errRealToken = errors.New("looks like a real page access token; a simulation has no business with one")

// looksReal tells Facebook's own tokens: EAA and a long tail.
func looksReal(token string) bool { return len(token) >= 40 && strings.HasPrefix(token, "EAA") }

// checkListen refuses addresses that other machines can reach: whoever sends there by mistake would believe that people
// got their messages.
func checkListen(addr string, remote bool) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q: %w", addr, err)
	}
	if remote || host == "localhost" {
		return nil
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%q can be reached from other machines; the sandbox answers as Facebook would but delivers nothing: set AllowRemote if that is meant", addr)
}

func digits(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// fieldError names the field of Config, Page or Fault that is at fault.
type fieldError struct{ field, reason string }

func (e fieldError) Error() string { return e.field + ": " + e.reason }
