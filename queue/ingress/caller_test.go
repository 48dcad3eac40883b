package ingress_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/brazier-relay/brazier/queue/ingress"
	"github.com/brazier-relay/brazier/queue/queuetest"
)

func prefixes(list string) (networks []netip.Prefix) {
	for item := range strings.FieldsSeq(list) {
		networks = append(networks, netip.MustParsePrefix(item))
	}
	return networks
}

// untouched is a body that fails the test when it is read.
type untouched struct{ t *testing.T }

func (u untouched) Read([]byte) (int, error) {
	u.t.Error("the body of a refused request is read")
	return 0, io.EOF
}

func TestAllowFrom(t *testing.T) {
	t.Parallel()
	q := queuetest.New(t)
	const braze, office = "203.0.113.0/28 198.51.100.7/32", "10.0.0.0/8 fd00::/8"
	for _, c := range []struct {
		name, allow, trust string
		peer               string
		forwarded          []string
		want               bool
	}{
		{"anywhere", "", "", "192.0.2.1:80", nil, true},
		{"anywhere, without an address", "", "", "", nil, true},
		{"in the network", braze, "", "203.0.113.15:80", nil, true},
		{"the one address", braze, "", "198.51.100.7:80", nil, true},
		{"beyond the network", braze, "", "203.0.113.16:80", nil, false},
		{"IPv4 as IPv6", braze, "", "[::ffff:203.0.113.1]:80", nil, true},
		{"network written as IPv6", "::ffff:203.0.113.0/124", "", "203.0.113.1:80", nil, true},
		{"network written as IPv6, beyond", "::ffff:203.0.113.0/124", "", "203.0.113.16:80", nil, false},
		{"all of IPv6 is not IPv4", "::/0", "", "203.0.113.1:80", nil, false},
		{"IPv6 with a zone", "fe80::/10", "", "[fe80::1%eth0]:80", nil, true},
		{"no address", braze, "", "@", nil, false},
		{"forwarded by an unknown proxy", braze, office, "192.0.2.1:80", []string{"203.0.113.1"}, false},
		{"forwarded, and no proxy is trusted", braze, "", "10.0.0.1:80", []string{"203.0.113.1"}, false},
		{"one proxy", braze, office, "10.0.0.1:80", []string{"203.0.113.1"}, true},
		{"one proxy, IPv6 as it writes it", "2001:db8::/32", office, "[fd00::1]:80", []string{"[2001:db8::1]:443"}, true},
		{"address with port", braze, office, "10.0.0.1:80", []string{"203.0.113.1:5120"}, true},
		{"two proxies", braze, office, "10.0.0.1:80", []string{"203.0.113.1, 10.9.9.9"}, true},
		{"two proxies, two headers", braze, office, "10.0.0.1:80", []string{"203.0.113.1", "10.9.9.9"}, true},
		{"an address that the caller invented", braze, office, "10.0.0.1:80", []string{"203.0.113.1, 192.0.2.1"}, false},
		{"a header that the caller invented", braze, office, "10.0.0.1:80", []string{"203.0.113.1", "192.0.2.1"}, false},
		{"a proxy that the caller invented", braze, office, "10.0.0.1:80", []string{"203.0.113.1, 192.0.2.1, 10.9.9.9"}, false},
		{"a proxy itself", braze, office, "10.0.0.1:80", nil, false},
		{"a proxy itself, allowed", office, office, "10.0.0.1:80", nil, true},
		{"proxies all the way", office, office, "10.0.0.1:80", []string{"10.0.0.3, 10.0.0.2"}, true},
		{"no address forwarded", braze, office, "10.0.0.1:80", []string{"unknown"}, false},
		{"an address and something else", braze, office, "10.0.0.1:80", []string{"203.0.113.1, unknown"}, false},
		{"an empty entry", braze, office, "10.0.0.1:80", []string{"203.0.113.1, "}, false},
		{"commas", braze, office, "10.0.0.1:80", []string{",,,"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, err := ingress.Open(ingress.Config{Queue: q, Pages: testPages(), Listen: "127.0.0.1:0", AllowFrom: prefixes(c.allow), TrustedProxies: prefixes(c.trust)})
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			var body io.Reader = untouched{t}
			if c.want {
				body = bytes.NewReader([]byte("{"))
			}
			r := httptest.NewRequest(http.MethodPost, messages, body)
			r.Header.Set("Authorization", "Bearer "+acmeKey)
			r.RemoteAddr, r.Header["X-Forwarded-For"] = c.peer, c.forwarded
			w := httptest.NewRecorder()
			server.ServeHTTP(w, r)
			want := http.StatusForbidden
			if c.want {
				want = http.StatusBadRequest // for the body
			}
			h := &harness{t: t}
			h.refused(h.read(w.Result()), want)
		})
	}
}

// The refusal of an address does not wait for the rest of the body, and the connection is closed.
func TestAllowFromCloses(t *testing.T) {
	t.Parallel()
	h := openOn(t, ingress.Config{AllowFrom: prefixes("203.0.113.0/24")}, fresh(t))
	status, body := h.raw("POST "+messages+" HTTP/1.1\r\nHost: brazier.example\r\nContent-Length: 1000\r\n\r\n{", false)
	if status != http.StatusForbidden || !strings.Contains(body, "address") {
		t.Errorf("status %d: %s", status, body)
	}
}
