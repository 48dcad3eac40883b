package braze_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brazier-relay/brazier/worker/braze"
)

// faults returns the fields that an error of Validate names, with their reasons.
func faults(t *testing.T, err error) map[string]string {
	t.Helper()
	found := map[string]string{}
	if err == nil {
		return found
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%T is not joined", err)
	}
	for _, e := range joined.Unwrap() {
		var field *braze.FieldError
		if !errors.As(e, &field) {
			t.Fatalf("%T is no FieldError", e)
		}
		found[field.Field] = field.Reason
	}
	return found
}

func TestConfigValidate(t *testing.T) {
	key := func() (string, error) { return theKey, nil }
	const form = "must have the form https://rest.fra-01.braze.eu"
	for _, c := range []struct {
		name string
		cfg  braze.Config
		want map[string]string
	}{
		{"least", braze.Config{URL: "https://rest.fra-01.braze.eu", Key: key}, nil},
		{"all", braze.Config{URL: "https://rest.iad-06.braze.com/", Key: key, UserAgent: "brazier/1.2", Timeout: time.Second, MaxObjects: 50,
			RepeatEvents: true, CreateAliases: true}, nil},
		{"a port and a path", braze.Config{URL: "https://gateway.example:8443/braze", Key: key}, nil},
		{"this machine", braze.Config{URL: "http://127.0.0.1:9092", Key: key}, nil},
		{"this machine, IPv6", braze.Config{URL: "http://[::1]:9092", Key: key}, nil},
		{"another container", braze.Config{URL: "http://braze:9092", Key: key, AllowPlainHTTP: true}, nil},
		{"nothing", braze.Config{}, map[string]string{"URL": "must be set, such as https://rest.fra-01.braze.eu", "Key": "must be set"}},
		{"everything wrong", braze.Config{URL: "x", UserAgent: "a\nb", Timeout: -time.Second, MaxObjects: 76}, map[string]string{
			"URL": form, "Key": "must be set", "UserAgent": "must be printable ASCII", "Timeout": "must not be negative (got -1s)",
			"MaxObjects": "must be between 1 and 75 (got 76)"}},
		{"no host", braze.Config{URL: "https://", Key: key}, map[string]string{"URL": form}},
		{"no scheme", braze.Config{URL: "rest.fra-01.braze.eu", Key: key}, map[string]string{"URL": form}},
		{"another scheme", braze.Config{URL: "ftp://rest.fra-01.braze.eu", Key: key}, map[string]string{"URL": form}},
		{"not a URL", braze.Config{URL: "https://rest.fra-01.braze.eu:port", Key: key}, map[string]string{"URL": form}},
		{"a password", braze.Config{URL: "https://a:secret@rest.fra-01.braze.eu", Key: key}, map[string]string{"URL": "must have no user, query or fragment"}},
		{"a query", braze.Config{URL: "https://rest.fra-01.braze.eu?key=secret", Key: key}, map[string]string{"URL": "must have no user, query or fragment"}},
		{"the endpoint", braze.Config{URL: "https://rest.fra-01.braze.eu/users/track/", Key: key}, map[string]string{"URL": "must be without /users/track, which is added"}},
		{"plain", braze.Config{URL: "http://rest.fra-01.braze.eu", Key: key}, map[string]string{
			"URL": "must be https:// or this machine, or AllowPlainHTTP must be set: the key would be shown to the network"}},
		{"below 0", braze.Config{URL: "https://a.example", Key: key, MaxObjects: -1}, map[string]string{"MaxObjects": "must be between 1 and 75 (got -1)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.cfg.Validate()
			if c.want == nil {
				c.want = map[string]string{}
			}
			if diff := cmp.Diff(c.want, faults(t, err)); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("%v repeats a secret", err)
			}
			client, newErr := braze.New(c.cfg)
			if (newErr == nil) != (err == nil) || (client == nil) != (err != nil) {
				t.Errorf("New says %v, Validate %v", newErr, err)
			}
			if client == nil {
				return
			}
			defer client.Close()
			objects, bytes := client.Limits()
			if want := c.cfg.MaxObjects; objects != want && !(want == 0 && objects == braze.MaxObjects) || bytes != braze.MaxBytes {
				t.Errorf("limits %d, %d", objects, bytes)
			}
		})
	}
	if got, want := (&braze.FieldError{Field: "URL", Reason: "must be set"}).Error(), "braze: URL: must be set"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// What a program that sets no User-Agent is called.
func TestDefaultUserAgent(t *testing.T) {
	s := serve(t, always(201, success))
	track(t, client(t, s.URL, func(c *braze.Config) { c.UserAgent = "" }), attribute("a"))
	if got := s.head().Get("User-Agent"); got != "brazier" {
		t.Errorf("User-Agent %q", got)
	}
}
