package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a sandbox and a client of it.
type rig struct {
	*Sandbox
	t      *testing.T
	client *http.Client
}

func start(t *testing.T, c Config) *rig {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return &rig{s, t, &http.Client{Transport: tr}}
}

// reply is an answer as read.
type reply struct {
	status int
	header http.Header
	raw    string
	body   struct {
		RecipientID  string `json:"recipient_id"`
		MessageID    string `json:"message_id"`
		AttachmentID string `json:"attachment_id"`
		Error        *struct {
			Message   string `json:"message"`
			Type      string `json:"type"`
			Code      int    `json:"code"`
			Subcode   int    `json:"error_subcode"`
			Transient *bool  `json:"is_transient"`
			Trace     string `json:"fbtrace_id"`
		} `json:"error"`
	}
}

// code is code/subcode, or ok.
func (r reply) code() string {
	if r.body.Error == nil {
		return fmt.Sprintf("%d", r.status)
	}
	return fmt.Sprintf("%d %d/%d", r.status, r.body.Error.Code, r.body.Error.Subcode)
}

func (r *rig) do(req *http.Request) (reply, error) {
	r.t.Helper()
	resp, err := r.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	rep := reply{status: resp.StatusCode, header: resp.Header, raw: string(raw)}
	if err != nil {
		return rep, err
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") && len(raw) > 0 {
		if err := json.Unmarshal(raw, &rep.body); err != nil {
			r.t.Errorf("answer %q: %v", raw, err)
		}
	}
	return rep, nil
}

func (r *rig) request(path, contentType, body string, header ...string) *http.Request {
	r.t.Helper()
	req, err := http.NewRequest("POST", r.URL()+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

// send posts a text to a person and fails the test if there is no answer.
func (r *rig) send(recipient, text string) reply {
	r.t.Helper()
	rep, err := r.trySend(recipient, text)
	if err != nil {
		r.t.Fatalf("send: %v", err)
	}
	return rep
}

func (r *rig) trySend(recipient, text string) (reply, error) {
	r.t.Helper()
	return r.do(r.request("/v26.0/me/messages", "application/json", textBody(recipient, text), "Authorization", "Bearer token"))
}

func textBody(recipient, text string) string {
	return fmt.Sprintf(`{"recipient":{"id":%q},"messaging_type":"UPDATE","message":{"text":%q}}`, recipient, text)
}

func textDigest(t *testing.T, text string) Digest {
	t.Helper()
	d, err := MessageDigest(fmt.Appendf(nil, `{"text":%q}`, text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// within returns a context with a deadline for what must happen soon.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestNewRefuses(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	realToken := "EAA" + strings.Repeat("x", 60)
	tests := []struct {
		name string
		c    Config
		want string // the field
	}{
		{"all interfaces", Config{Listen: ":0"}, "Listen:"},
		{"another machine's", Config{Listen: "192.0.2.1:0"}, "Listen:"},
		{"no port", Config{Listen: "127.0.0.1"}, "Listen:"},
		{"in use", Config{Listen: busy.Addr().String()}, "Listen:"},
		{"control on all interfaces", Config{Control: "0.0.0.0:0"}, "Control:"},
		{"control in use", Config{Control: busy.Addr().String()}, "Control:"},
		{"latency", Config{Latency: -1}, "Latency:"},
		{"jitter", Config{Jitter: 48 * time.Hour}, "Jitter:"},
		{"slow", Config{Slow: -1}, "Slow:"},
		{"record limit", Config{RecordLimit: -1}, "RecordLimit:"},
		{"any page", Config{AnyPage: Page{Token: "x"}}, "AnyPage:"},
		{"any page's rate", Config{AnyPage: Page{Rate: -2}}, "AnyPage.Rate:"},
		{"no id", Config{Pages: []Page{{Name: "acme"}}}, "Pages[0].ID:"},
		{"odd id", Config{Pages: []Page{{ID: "acme"}}}, "Pages[0].ID:"},
		{"id twice", Config{Pages: []Page{{ID: "1"}, {ID: "1", Token: "x"}}}, "Pages[1].ID:"},
		{"token twice", Config{Pages: []Page{{ID: "1", Token: "x"}, {ID: "2", Token: "x"}}}, "Pages[1].Token:"},
		{"real token", Config{Pages: []Page{{ID: "1", Token: realToken}}}, "Pages[0].Token:"},
		{"media rate", Config{Pages: []Page{{ID: "1", MediaRate: -2}}}, "Pages[0].MediaRate:"},
		{"high volume", Config{Pages: []Page{{ID: "1", HighVolume: -2}}}, "Pages[0].HighVolume:"},
		{"high volume for", Config{Pages: []Page{{ID: "1", HighVolumeFor: -2}}}, "Pages[0].HighVolumeFor:"},
		{"block", Config{Pages: []Page{{ID: "1", Block: -2}}}, "Pages[0].Block:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := New(tt.c)
			if err == nil {
				s.Close()
				t.Fatal("started")
			}
			if !strings.HasPrefix(err.Error(), "sandbox: "+tt.want) {
				t.Errorf("error %q does not name %s", err, tt.want)
			}
			if strings.Contains(err.Error(), realToken) {
				t.Error("error repeats the token")
			}
		})
	}
}

func TestRemoteIfMeant(t *testing.T) {
	r := start(t, Config{Listen: "0.0.0.0:0", Control: controlOff, AllowRemote: true})
	if r.ControlURL() != "" {
		t.Errorf("control listener at %s", r.ControlURL())
	}
}

func TestCloseTwiceAndReadAfterwards(t *testing.T) {
	r := start(t, Config{})
	r.send("1", "hello")
	for range 2 {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.Calls()); n != 1 {
		t.Errorf("%d calls in the record after Close", n)
	}
	if _, err := r.trySend("1", "hello"); err == nil {
		t.Error("answered after Close")
	}
}

// Close while calls come in must neither hang nor leave anything behind, whatever state their connections are in.
func TestCloseUnderLoad(t *testing.T) {
	for range 20 {
		r := start(t, Config{Latency: time.Millisecond})
		r.Script(Fault{Action: Hang, Times: Standing, Every: 3})
		r.Script(Fault{Action: Reset, Times: Standing, Every: 3})
		idle, err := net.Dial("tcp", strings.TrimPrefix(r.URL(), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		for range 8 {
			go func() {
				defer func() { done <- struct{}{} }()
				for {
					if _, err := r.trySend("1", "x"); err != nil && r.isClosed() {
						return
					}
				}
			}()
		}
		if err := r.wait(within(t), func(c Counts) bool { return c.Calls >= 5 }); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		for range 8 {
			<-done
		}
		idle.Close()
	}
}

func (r *rig) isClosed() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

func TestBannerAndHelpSayWhatItIs(t *testing.T) {
	r := start(t, Config{})
	banner, help := r.Banner(), r.Help()
	for _, want := range []string{"SIMULATED", "NOTHING", r.URL(), r.ControlURL()} {
		if !strings.Contains(banner, want) {
			t.Errorf("banner lacks %q", want)
		}
	}
	for _, p := range persons {
		if !strings.Contains(help, p.prefix+"  "+p.does) {
			t.Errorf("help lacks person %s", p.prefix)
		}
	}
}

func TestSameSeedSameAnswers(t *testing.T) {
	var first []string
	for run := range 2 {
		r := start(t, Config{Seed: 7})
		for i, id := range []string{"1", "9000000551", "9000000278", "9000000002", "2", "9000000001"} {
			rep := r.send(id, "hello")
			if run == 0 {
				first = append(first, rep.raw)
			} else if rep.raw != first[i] {
				t.Errorf("call %d: %s, at first %s", i, rep.raw, first[i])
			}
		}
	}
}
