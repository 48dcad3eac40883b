package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
	"github.com/brazier-relay/brazier/cmd/brazier/process"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker/deliver"
)

type checkCommand struct {
	process.IngressFlags
	process.PagesFlags
	process.GraphFlags
	process.NATSFlags
	process.EmbeddedFlags
	process.StreamFlags
	process.OpsFlags `set:"ops_listen=127.0.0.1:8081"`
	cli.LogFlags
}

func (checkCommand) Help() string {
	return "Prints the settings with secrets masked, what is wrong with them, and what may be. Starts nothing and sends nothing to Facebook. " +
		"Streams are compared with the settings if NATS runs.\n\n" +
		"Exit codes: 0 nothing is wrong, though there may be warnings; 1 something is."
}

func (c checkCommand) Run(ctx context.Context, std cli.Stdio) error {
	pages, wrong := c.inspect()
	c.print(std.Out, pages)
	warnings := append(c.warnings(pages, std.Variables), c.drift(ctx)...)
	printList(std.Out, "Warnings", warnings)
	if len(wrong) == 0 {
		fmt.Fprintln(std.Out, "\nNothing is wrong.")
		return nil
	}
	printList(std.Out, "Wrong", wrong)
	return cli.Silent(errors.New("the settings have faults"))
}

func printList(w io.Writer, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s (%d):\n", title, len(lines))
	for _, line := range lines {
		fmt.Fprintln(w, "  "+line)
	}
}

// inspect returns the pages and every fault of the settings: what the roles refuse.
func (c checkCommand) inspect() (pages []pagefile.Page, wrong []string) {
	pages, err := pagefile.Read(c.Pages, pagefile.Options{LiftedRates: !sendapi.IsFacebook(c.GraphURL)})
	var found pagefile.Faults
	if errors.As(err, &found) {
		for _, p := range found {
			wrong = append(wrong, p.String())
		}
	} else if err != nil {
		wrong = append(wrong, "--pages: "+err.Error())
	}
	for _, fault := range process.Faults(errors.Join(c.GraphFlags.Faults(), c.IngressFlags.Faults(), c.OpsFlags.Faults(c.Listen), c.NATSFlags.Faults(),
		c.EmbeddedFlags.Faults(), c.StreamFlags.Faults())) {
		wrong = append(wrong, fault.Error())
	}
	return pages, wrong
}

func (c checkCommand) print(w io.Writer, pages []pagefile.Page) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	row := func(name string, value any) { fmt.Fprintf(t, "%s\t%v\n", name, value) }
	row("version", cli.Version())
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
	row("graph-slow", c.GraphSlow)
	row("slow-start", c.SlowStart)
	row("probe-every", c.ProbeEvery)
	row("nats-url", maskedList(c.NatsURL)+"  (ingress and worker)")
	row("nats-creds", cmp.Or(c.NatsCreds, "none"))
	row("nats-user", cmp.Or(c.NatsUser, "none"))
	row("nats-password-file", cmp.Or(c.NatsPasswordFile, "none"))
	row("nats-nkey", cmp.Or(c.NatsNkey, "none"))
	row("nats-cert", cmp.Or(c.NatsCert, "none"))
	row("nats-key", cmp.Or(c.NatsKey, "none"))
	row("nats-ca", cmp.Or(c.NatsCA, "none"))
	row("replicas", c.Replicas)
	row("data", c.Data+"  (serve)")
	row("data-key-file", cmp.Or(c.DataKeyFile, "none")+"  (serve)")
	row("sync", c.Sync+"  (serve)")
	row("max-queue", c.MaxQueue)
	row("dead-age", c.DeadAge)
	row("max-updates", c.MaxUpdates)
	row("receipts-for", c.ReceiptsFor)
	row("key-window", c.KeyWindow)
	row("log-level", c.Level)
	row("log-format", c.Format)
	row("log-keys", c.Keys)
	row("pages", c.Pages)
	for _, p := range pages {
		fmt.Fprintf(t, "\npage %s\n", cmp.Or(p.Name, "without a name"))
		row("  id", p.ID)
		if p.App != "" {
			row("  app", p.App)
		}
		row("  token", tokenSource(p.Secrets))
		if p.Secrets.AppSecretFile != "" {
			row("  app secret", "from "+p.Secrets.AppSecretFile)
		}
		row("  keys", fmt.Sprintf("%d", len(p.Keys)))
		row("  rate", fmt.Sprintf("%v calls/s, all workers together", p.Rate))
		row("  media rate", fmt.Sprintf("%v calls/s, all workers together", p.MediaRate))
		row("  max in flight", p.MaxInFlight)
		row("  in doubt", inDoubt(p))
		row("  metadata", p.Metadata)
		row("  expire", p.Expire)
		row("  queue share", fmt.Sprintf("%.0f%% of what other pages leave", 100*p.QueueShare))
		if p.Braze == nil {
			continue
		}
		row("  webhooks", fmt.Sprintf("of the app, signed with the secret in %s", strings.Join(p.Webhooks.SecretFiles, " or ")))
		row("  braze", fmt.Sprintf("workspace %s at %s, key from %s", p.Braze.Name, p.Braze.URL, p.Braze.KeyFile))
		row("  references", references(p.References))
		row("  attributes", strings.Join([]string{p.Attributes.MessengerID, p.Attributes.Window, p.Attributes.Reachable}, " "))
		row("  alias users", p.Aliases)
	}
}

// references says which references a page accepts.
func references(r pagefile.References) string {
	s := fmt.Sprintf("signed with the secret in %s, for %v", strings.Join(r.SecretFiles, " or "), r.MaxAge)
	if r.Endless {
		s += ", and those that never expire"
	}
	if r.Reusable {
		s += ", also from a second person"
	}
	return s
}

func inDoubt(p pagefile.Page) string {
	if p.InDoubt == deliver.Resend {
		return fmt.Sprintf("%s, %d times at most, then park", p.InDoubt, p.Repeats)
	}
	return string(p.InDoubt)
}

// tokenSource says where the token comes from, never what it is.
func tokenSource(s pagefile.Secrets) string {
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
