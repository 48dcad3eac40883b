package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
	"github.com/brazier-relay/brazier/sendapi"
)

// renewBefore is how long before its end a certificate should have been renewed. Let's Encrypt's clients do it 30 days
// before, so that two weeks leave two for what went wrong.
const renewBefore = 14 * 24 * time.Hour

// driftTimeout is how long NATS may take to say how its streams are made.
const driftTimeout = 2 * time.Second

// warnings returns what works, but most likely not as it was meant to.
func (c checkCommand) warnings(pages []pagefile.Page, known cli.Variables) (warnings []string) {
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	told := map[string]bool{} // of files that several pages have
	for _, p := range pages {
		at := func(format string, args ...any) {
			warn("%s", pagefile.Fault{File: c.Pages, Line: p.Line, Text: "page " + p.Name + ": " + fmt.Sprintf(format, args...)})
		}
		for _, r := range p.Caps() {
			at("max_in_flight %d caps %s %v at %v calls/s for each worker, since a call takes Facebook about %v: leave max_in_flight out, or make it %d or more",
				p.MaxInFlight, r.Setting, r.Rate, r.At, pagefile.CallTime, r.Needed)
		}
		if cred, err := p.Secrets.Read(); err == nil && sendapi.IsFacebook(c.GraphURL) && !looksLikeToken(cred.Token) {
			at("the token is not of the form of a page access token (EAA and many more characters): is it a placeholder?")
		}
		for _, path := range secretFiles(p) {
			if !told[path] && readableByOthers(path) {
				told[path] = true
				at("every user of this machine can read %s: run chmod o-r on it", path)
			}
		}
	}
	for _, secret := range [][2]string{{"--tls-key", c.TLSKey}, {"--nats-creds", c.NatsCreds}, {"--nats-password-file", c.NatsPasswordFile},
		{"--nats-nkey", c.NatsNkey}, {"--nats-key", c.NatsKey}, {"--data-key-file", c.DataKeyFile}} {
		if readableByOthers(secret[1]) {
			warn("%s: every user of this machine can read %s: run chmod o-r on it", secret[0], secret[1])
		}
	}
	if pair, err := c.ReadCertificate(); err == nil && pair != nil {
		switch left := time.Until(pair.Leaf.NotAfter); {
		case left <= 0:
			warn("--tls-cert: the certificate has expired at %s: renew it", pair.Leaf.NotAfter.Format(time.RFC3339))
		case left < renewBefore:
			warn("--tls-cert: the certificate expires at %s, in %.0f days: renew it", pair.Leaf.NotAfter.Format(time.RFC3339), left.Hours()/24)
		}
	}
	if warning := sendapi.VersionWarning(c.GraphVersion, time.Now()); warning != "" {
		warn("--graph-version: %s", warning)
	}
	for _, name := range known.Unknown(pagefile.Variables(pages)...) {
		warn("%s: no flag has this variable: check its spelling, or unset it", name)
	}
	return warnings
}

// secretFiles are the files of a page's secrets, those of its app and its workspace among them.
func secretFiles(p pagefile.Page) []string {
	files := []string{p.Secrets.TokenFile, p.Secrets.AppSecretFile}
	if p.Braze != nil {
		files = append(files, p.Braze.KeyFile, p.Webhooks.VerifyTokenFile)
		files = append(append(files, p.Webhooks.SecretFiles...), p.References.SecretFiles...)
	}
	return files
}

// looksLikeToken reports whether a token has the form of Facebook's page access tokens.
func looksLikeToken(token string) bool { return strings.HasPrefix(token, "EAA") && len(token) >= 40 }

func readableByOthers(path string) bool {
	if path == "" || runtime.GOOS == "windows" {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&0o004 != 0
}

// answers reports whether one of the servers lets itself be connected to.
func answers(ctx context.Context, servers string) bool {
	for server := range strings.SplitSeq(servers, ",") {
		address, _ := parseServer(server)
		u, err := url.Parse(address)
		if err != nil {
			continue
		}
		conn, err := (&net.Dialer{Timeout: driftTimeout / 4}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "4222")))
		if err == nil {
			conn.Close()
			return true
		}
	}
	return false
}

// drift returns where streams that exist differ from the flags. Where no server runs it returns nothing.
func (c checkCommand) drift(ctx context.Context) (differences []string) {
	ctx, cancel := context.WithTimeout(ctx, driftTimeout)
	defer cancel()
	cfg := c.In(queue.Config{URL: c.NatsURL, Credentials: c.Credentials(), Replicas: c.Replicas,
		Name: "brazier-check", Existing: true, Log: zap.NewNop()})
	if embedded.Exists(c.Data) {
		url, err := embedded.Address(c.Data)
		if err != nil {
			return nil
		}
		cfg.URL, cfg.Credentials = url, queue.Credentials{}
	}
	if !answers(ctx, cfg.URL) { // Open would wait for it
		return nil
	}
	q, err := queue.Open(ctx, cfg)
	if err != nil {
		return nil
	}
	defer q.Close()
	found, err := q.Differences(ctx)
	if err != nil {
		return nil
	}
	for _, d := range found {
		differences = append(differences, fmt.Sprintf("%s: %s is %s, not %s as the flags say: change it with \"brazier setup\", or correct the flag", d.Stream, d.Setting, d.Have, d.Want))
	}
	return differences
}
