package webhook_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/sendapi/webhook"
)

const (
	secret  = "ref-secret-for-tests-4f1c9a7be2"
	brazeID = "6650f1a2b3c4d5e6f7a8b9c0"
)

var (
	policy = webhook.RefPolicy{Secrets: [][]byte{[]byte(secret)}}
	now    = time.Unix(1795600000, 0)
)

// sign makes a reference of what stands before the signature, as Liquid does: without a look at what it signs.
func sign(signed string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "-" + hex.EncodeToString(mac.Sum(nil))
}

// refusal is the reason in an error of Check, or empty.
func refusal(t *testing.T, err error) webhook.RefReason {
	t.Helper()
	if err == nil {
		return ""
	}
	var refused *webhook.RefError
	if !errors.As(err, &refused) {
		t.Fatalf("%v is no RefError", err)
	}
	return refused.Reason
}

// why names the reason for each line of ref_vectors.jsonl that is not valid.
var why = map[string]webhook.RefReason{
	"braze_id_upper_sig": webhook.RefMalformed,
	"forged_sig":         webhook.RefForged,
	"id_changed":         webhook.RefForged,
	"truncated":          webhook.RefMalformed,
	"other_pages_secret": webhook.RefForged,
	"expired":            webhook.RefExpired,
	"no_expiry":          webhook.RefEndless,
	"dotted_draft_form":  webhook.RefNotOurs,
	"placeholder":        webhook.RefMalformed,
}

func TestRefVectors(t *testing.T) {
	type vector struct {
		Name, Ref, ID, Why string
		Length             int
		Secrets            []string `json:"ref_secrets"`
		Now                int64
		MaxAge             int64  `json:"max_age_s"`
		IDKind             string `json:"id_kind"`
		Valid              any    // true, false, or "setting"
	}
	readLines(t, "ref_vectors.jsonl", 17, func(v vector) {
		t.Run(v.Name, func(t *testing.T) {
			p := webhook.RefPolicy{MaxAge: time.Duration(v.MaxAge) * time.Second}
			if p.MaxAge != webhook.DefaultMaxAge || len(v.Ref) != v.Length {
				t.Fatal("the line is not as it has to be")
			}
			for _, s := range v.Secrets {
				p.Secrets = append(p.Secrets, []byte(s))
			}
			for _, p.AllowEndless = range []bool{false, true} {
				want := why[v.Name]
				if v.Valid == "setting" && p.AllowEndless {
					want = ""
				}
				if (v.Valid == false) != (want != "") && v.Valid != "setting" {
					t.Fatalf("the line says %v, the table %q", v.Valid, want)
				}
				r, err := p.Check(v.Ref, time.Unix(v.Now, 0))
				if got := refusal(t, err); got != want {
					t.Errorf("%v, want %q: %s", err, want, v.Why)
				}
				if err != nil {
					if r != (webhook.Ref{}) {
						t.Errorf("refused, yet %+v", r)
					}
					continue
				}
				if r.ID != v.ID || r.Form.Field() != v.IDKind || len(r.Fingerprint) != 32 {
					t.Errorf("%+v, want %s %s", r, v.IDKind, v.ID)
				}
				if v.Name != "external_padded" { // Liquid's padding is kept; ours is left out
					made, err := webhook.NewRef([]byte(v.Secrets[len(v.Secrets)-1]), r.Form, r.ID, r.Made)
					if err != nil || made != v.Ref {
						t.Errorf("made anew it is %s, %v; want %s", made, err, v.Ref)
					}
				}
			}
		})
	})
}

// What Liquid signs without a look at it.
func TestSignedButNotAccepted(t *testing.T) {
	for _, c := range []struct {
		name, signed string
		want         webhook.RefReason
	}{
		{"alias user: no external_id", "x1--1795599940", webhook.RefEmpty},
		{"no external_id in base64", "e1--1795599940", webhook.RefEmpty},
		{"padding alone", "e1-=-1795599940", webhook.RefEmpty},
		{"blank external_id", "e1-ICA-1795599940", webhook.RefEmpty},
		{"no braze_id", "b1--1795599940", webhook.RefEmpty},
		{"empty and endless", "b1--0", webhook.RefEmpty},
		{"external_id under b1", "b1-user17-1795599940", webhook.RefMalformed},
		{"external_id that needs base64", "x1-a=b-1795599940", webhook.RefMalformed},
		{"not base64url", "e1-a-1795599940", webhook.RefMalformed},
		{"base64 of what is not UTF-8", "e1-_w-1795599940", webhook.RefMalformed},
		{"external_id too long", "x1-" + strings.Repeat("a", 988) + "-1795599940", webhook.RefMalformed},
		{"no time", "x1-user", webhook.RefMalformed},
		{"no id and no time", "x1", webhook.RefMalformed},
		{"time in milliseconds", "x1-user-1795599940123", webhook.RefMalformed},
		{"time of another format", "x1-user-2026-11-25T09", webhook.RefMalformed},
		{"an hour ahead", "x1-user-1795603600", webhook.RefFuture},
		{"five minutes and a second ahead", "x1-user-1795600301", webhook.RefFuture},
		{"five minutes ahead", "x1-user-1795600300", ""},
		{"63 days old", "x1-user-1790156800", ""},
		{"63 days and a second old", "x1-user-1790156799", webhook.RefExpired},
		{"endless", "x1-user-0", webhook.RefEndless},
		{"a form of tomorrow", "b2-" + brazeID + "-1795599940", webhook.RefNotOurs},
		{"dashes in the id", "x1---a-1--2-1795599940", ""},
		{"longest external_id", "x1-" + strings.Repeat("a", 987) + "-1795599940", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := policy.Check(sign(c.signed), now)
			if got := refusal(t, err); got != c.want {
				t.Errorf("%+v, %v; want %q", r, err, c.want)
			}
		})
	}
}

func TestRefWithoutSecrets(t *testing.T) {
	mac := hmac.New(sha256.New, nil)
	mac.Write([]byte("x1-user-1795599940"))
	ref := "x1-user-1795599940-" + hex.EncodeToString(mac.Sum(nil))
	for _, secrets := range [][][]byte{nil, {nil}, {[]byte("")}} {
		if _, err := (webhook.RefPolicy{Secrets: secrets}).Check(ref, now); refusal(t, err) != webhook.RefForged {
			t.Errorf("%q: %v, want it forged", secrets, err)
		}
	}
}

func TestFingerprint(t *testing.T) {
	fingerprint := func(signed string) string {
		r, err := policy.Check(sign(signed), now)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(sign(signed), r.Fingerprint) {
			t.Errorf("the fingerprint of %s is a part of it", signed)
		}
		return r.Fingerprint
	}
	first := fingerprint("x1-user-1795599940")
	if first != fingerprint("x1-user-1795599940") {
		t.Error("the same reference has two fingerprints")
	}
	for _, signed := range []string{"x1-user-1795599941", "x1-user2-1795599940", "e1-dXNlcg-1795599940"} {
		if fingerprint(signed) == first {
			t.Errorf("%s has the fingerprint of another reference", signed)
		}
	}
}

func TestNewRefRefuses(t *testing.T) {
	for _, c := range []struct {
		name, secret string
		form         webhook.Form
		id           string
		made         time.Time
	}{
		{"no secret", "", webhook.FormPlain, "user", now},
		{"no form", secret, "", "user", now},
		{"other form", secret, "y1", "user", now},
		{"no id", secret, webhook.FormPlain, "", now},
		{"blank id", secret, webhook.FormEncoded, " \t", now},
		{"short braze_id", secret, webhook.FormBrazeID, brazeID[1:], now},
		{"e-mail address as it is", secret, webhook.FormPlain, "ada@example.com", now},
		{"not UTF-8", secret, webhook.FormEncoded, "\xff", now},
		{"before 1970", secret, webhook.FormPlain, "user", time.Unix(-1, 0)},
		{"1970", secret, webhook.FormPlain, "user", time.Unix(0, 0)},
		{"far future", secret, webhook.FormPlain, "user", time.Unix(1e11, 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			ref, err := webhook.NewRef([]byte(c.secret), c.form, c.id, c.made)
			if err == nil || ref != "" {
				t.Fatalf("%s, %v; want an error", ref, err)
			}
			if c.id == "ada@example.com" && strings.Contains(err.Error(), c.id) {
				t.Errorf("the error shows the id: %v", err)
			}
		})
	}
}
