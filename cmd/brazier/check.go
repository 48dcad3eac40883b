package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker/deliver"
)

type checkCommand struct {
	doorFlags
	pagesFlags
	graphFlags
	natsFlags
	embeddedFlags
	streamFlags
	opsFlags `set:"ops_listen=127.0.0.1:8081"`
	logFlags
}

func (checkCommand) Help() string {
	return "Nothing is started, and neither NATS nor Facebook is called. Exit code 0: nothing is wrong, though there may be warnings, 1: something is."
}

func (c checkCommand) Run(std stdio) error {
	pages, wrong := c.inspect(std.known)
	c.print(std.out, pages)
	if warnings := c.warnings(pages); len(warnings) > 0 {
		fmt.Fprintf(std.out, "\nWarnings (%d):\n", len(warnings))
		for _, w := range warnings {
			fmt.Fprintln(std.out, "  "+w)
		}
	}
	if len(wrong) == 0 {
		fmt.Fprintln(std.out, "\nNothing is wrong.")
		return nil
	}
	fmt.Fprintf(std.out, "\nWrong (%d):\n", len(wrong))
	for _, w := range wrong {
		fmt.Fprintln(std.out, "  "+w)
	}
	return silent{errors.New("the settings have faults")}
}

// inspect returns the pages and every fault of the settings.
func (c checkCommand) inspect(known variables) (pages []pageConfig, wrong []string) {
	pages, err := readPagesFor(c.GraphURL)(c.Pages)
	var found problems
	if errors.As(err, &found) {
		for _, p := range found {
			wrong = append(wrong, p.String())
		}
	} else if err != nil {
		wrong = append(wrong, "--pages: "+err.Error())
	}
	if client, err := sendapi.NewClient(sendapi.Config{GraphURL: c.GraphURL, Version: c.GraphVersion, Timeout: c.SendTimeout, AllowPlainHTTP: c.GraphInsecure}); err != nil {
		wrong = append(wrong, inFlags(err).Error())
	} else {
		client.Close()
	}
	if warning := sendapi.VersionWarning(c.GraphVersion, time.Now()); warning != "" {
		wrong = append(wrong, "--graph-version: "+warning)
	}
	wrong = append(wrong, c.wrongAddresses()...)
	if c.StoreWait <= 0 || c.StoreWait > 80*time.Second {
		wrong = append(wrong, fmt.Sprintf("--store-wait: %v is not between 0 and 80s: Braze gives a request 90s", c.StoreWait))
	}
	if c.SlowStart < 0 || c.ProbeEvery <= 0 {
		wrong = append(wrong, fmt.Sprintf("--slow-start, --probe-every: %v and %v are no times to wait", c.SlowStart, c.ProbeEvery))
	}
	if c.MaxBody <= 0 {
		wrong = append(wrong, fmt.Sprintf("--max-body: %d is no size: give it in bytes, above 0", c.MaxBody))
	}
	if c.MaxWaiting <= 0 {
		wrong = append(wrong, fmt.Sprintf("--max-waiting: %d is no number of requests: give one above 0", c.MaxWaiting))
	}
	if c.MaxWaitingBytes < c.MaxBody {
		wrong = append(wrong, fmt.Sprintf("--max-waiting-bytes: %d is under --max-body, %d: the largest body would never be taken", c.MaxWaitingBytes, c.MaxBody))
	}
	if c.MaxConnections <= 0 {
		wrong = append(wrong, fmt.Sprintf("--max-connections: must be above 0 (got %d)", c.MaxConnections))
	}
	if _, err := c.certificate(zap.NewNop()); err != nil {
		wrong = append(wrong, err.Error())
	}
	for _, name := range known.unknown(pages) {
		wrong = append(wrong, name+": no flag has this variable: check its spelling, or unset it")
	}
	return pages, wrong
}

// warnings returns what works, and most likely not as it was meant.
func (c checkCommand) warnings(pages []pageConfig) (warnings []string) {
	for _, p := range pages {
		for _, r := range p.caps() {
			warnings = append(warnings, problem{c.Pages, p.line, fmt.Sprintf("page %s: max_in_flight %d caps %s %v at %v calls/s for each worker, since a call takes Facebook about %v: "+
				"leave max_in_flight out, or make it %d or more", p.Name, p.MaxInFlight, r.setting, r.rate, r.at, callTime, r.needed)}.String())
		}
	}
	return warnings
}

func (c checkCommand) wrongAddresses() (wrong []string) {
	for _, f := range []struct{ flag, address string }{{"--listen", c.Listen}, {"--ops-listen", c.OpsListen}} {
		if f.flag == "--ops-listen" && f.address == "off" {
			continue
		}
		_, port, err := net.SplitHostPort(f.address)
		if err == nil {
			_, err = net.LookupPort("tcp", port)
		}
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %q is no address: write HOST:PORT", f.flag, f.address))
		}
	}
	if c.Listen == c.OpsListen && !strings.HasSuffix(c.Listen, ":0") { // port 0 is a free one each time
		wrong = append(wrong, fmt.Sprintf("--ops-listen: %q is the address of --listen: choose another, or off", c.OpsListen))
	}
	for server := range strings.SplitSeq(c.NatsURL, ",") {
		if _, ok := parseServer(server); !ok {
			wrong = append(wrong, "--nats-url: an address is not of the form nats://HOST:PORT")
		}
	}
	for _, f := range []struct{ flag, path string }{{"--nats-creds", c.NatsCreds}, {"--nats-ca", c.NatsCA}} {
		if f.path == "" {
			continue
		}
		if _, err := os.ReadFile(f.path); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %v: check the path and its permissions", f.flag, err))
		}
	}
	return wrong
}

func (c checkCommand) print(w io.Writer, pages []pageConfig) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	row := func(name string, value any) { fmt.Fprintf(t, "%s\t%v\n", name, value) }
	row("version", version())
	row("listen", c.Listen)
	row("tls-cert", cmp.Or(c.TLSCert, "none"))
	row("tls-key", cmp.Or(c.TLSKey, "none"))
	row("allow-from", cmp.Or(c.AllowFrom.String(), "everybody"))
	row("trusted-proxy", cmp.Or(c.TrustedProxy.String(), "none"))
	row("max-body", c.MaxBody)
	row("max-waiting", c.MaxWaiting)
	row("max-waiting-bytes", c.MaxWaitingBytes)
	row("max-connections", c.MaxConnections)
	row("store-wait", c.StoreWait)
	row("ops-listen", c.OpsListen)
	row("pprof", c.Pprof)
	row("graph-url", masked(c.GraphURL))
	row("graph-version", c.GraphVersion)
	row("graph-insecure", c.GraphInsecure)
	row("send-timeout", c.SendTimeout)
	row("slow-start", c.SlowStart)
	row("probe-every", c.ProbeEvery)
	row("nats-url", maskedList(c.NatsURL)+"  (ingress and worker)")
	row("nats-creds", cmp.Or(c.NatsCreds, "none"))
	row("nats-ca", cmp.Or(c.NatsCA, "none"))
	row("replicas", c.Replicas)
	row("data", c.Data+"  (serve)")
	row("sync", c.Sync+"  (serve)")
	row("max-queue", c.MaxQueue)
	row("dead-age", c.DeadAge)
	row("key-window", c.KeyWindow)
	row("log-level", c.Level)
	row("log-format", c.Format)
	row("pages", c.Pages)
	for _, p := range pages {
		fmt.Fprintf(t, "\npage %s\n", cmp.Or(p.Name, "without a name"))
		row("  id", p.ID)
		if p.App != "" {
			row("  app", p.App)
		}
		row("  token", p.Secrets.describe())
		if p.Secrets.AppSecretFile != "" {
			row("  app secret", "from "+p.Secrets.AppSecretFile)
		}
		row("  keys", fmt.Sprintf("%d", len(p.Keys)))
		row("  rate", fmt.Sprintf("%v calls/s, all workers together", p.Rate))
		row("  media rate", fmt.Sprintf("%v calls/s, all workers together", p.MediaRate))
		row("  max in flight", p.MaxInFlight)
		row("  in doubt", p.inDoubt())
		row("  metadata", p.Metadata)
		row("  expire", p.Expire)
		row("  queue share", fmt.Sprintf("%.0f%% of what other pages leave", 100*p.QueueShare))
	}
}

func (p pageConfig) inDoubt() string {
	if p.InDoubt == deliver.Resend {
		return fmt.Sprintf("%s, %d times at most, then park", p.InDoubt, p.Repeats)
	}
	return string(p.InDoubt)
}

// describe says where the token comes from, never what it is.
func (s secrets) describe() string {
	switch {
	case s.TokenFile != "":
		return "from " + s.TokenFile
	case s.Token != "":
		return "set, masked"
	}
	return "missing"
}

// masked is an address without user, password and query.
func masked(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "(no address)" // and so nobody knows where in it a password stands
	}
	if u.User != nil {
		u.User = url.User("xxxxx")
	}
	if u.RawQuery != "" {
		u.RawQuery = "xxxxx"
	}
	return u.String()
}

func maskedList(servers string) string {
	var list []string
	for server := range strings.SplitSeq(servers, ",") {
		u, _ := parseServer(server)
		list = append(list, masked(u))
	}
	return strings.Join(list, ",")
}

// parseServer returns a NATS server's address in full: nats.go takes it without a scheme, too.
func parseServer(server string) (address string, ok bool) {
	address = strings.TrimSpace(server)
	if !strings.Contains(address, "://") {
		address = "nats://" + address
	}
	u, err := url.Parse(address)
	return address, err == nil && u.Hostname() != ""
}
