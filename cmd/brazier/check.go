package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/brazier-relay/brazier/sendapi"
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
	return "Nothing is started, and neither NATS nor Facebook is called. Exit code 0: nothing is wrong, 1: something is."
}

func (c checkCommand) Run(std stdio) error {
	pages, wrong := c.inspect()
	c.print(std.out, pages)
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
func (c checkCommand) inspect() (pages []pageConfig, wrong []string) {
	pages, err := readPages(c.Pages)
	var found problems
	if errors.As(err, &found) {
		for _, p := range found {
			wrong = append(wrong, p.String())
		}
	} else if err != nil {
		wrong = append(wrong, "--pages: "+err.Error())
	}
	if client, err := sendapi.NewClient(sendapi.Config{GraphURL: c.GraphURL, Version: c.GraphVersion, Timeout: c.SendTimeout, AllowPlainHTTP: c.GraphInsecure}); err != nil {
		wrong = append(wrong, "--graph-url, --graph-version, --send-timeout: "+err.Error())
	} else {
		client.Close()
	}
	if warning := sendapi.VersionWarning(c.GraphVersion, time.Now()); warning != "" {
		wrong = append(wrong, "--graph-version: "+warning)
	}
	for flag, address := range map[string]string{"--listen": c.Listen, "--ops-listen": c.OpsListen} {
		if _, _, err := net.SplitHostPort(address); err != nil && !(flag == "--ops-listen" && address == "off") {
			wrong = append(wrong, fmt.Sprintf("%s: %q is no address: write HOST:PORT", flag, address))
		}
	}
	for _, server := range strings.Split(c.NatsURL, ",") {
		if u, err := url.Parse(strings.TrimSpace(server)); err != nil || u.Host == "" {
			wrong = append(wrong, "--nats-url: an address is not of the form nats://HOST:PORT")
		}
	}
	if c.StoreWait <= 0 || c.StoreWait > 80*time.Second {
		wrong = append(wrong, fmt.Sprintf("--store-wait: %v is not between 0 and 80s: Braze gives a request 90s", c.StoreWait))
	}
	return pages, wrong
}

func (c checkCommand) print(w io.Writer, pages []pageConfig) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	row := func(name string, value any) { fmt.Fprintf(t, "%s\t%v\n", name, value) }
	row("version", version())
	row("listen", c.Listen)
	row("max-body", c.MaxBody)
	row("store-wait", c.StoreWait)
	row("ops-listen", c.OpsListen)
	row("graph-url", withoutPassword(c.GraphURL))
	row("graph-version", c.GraphVersion)
	row("send-timeout", c.SendTimeout)
	row("nats-url", withoutPassword(c.NatsURL)+"  (ingress and worker)")
	row("data", c.Data+"  (serve)")
	row("sync", c.Sync+"  (serve)")
	row("max-queue", c.MaxQueue)
	row("key-window", c.KeyWindow)
	row("log-level", c.Level)
	row("log-format", c.Format)
	row("pages", c.Pages)
	for _, p := range pages {
		fmt.Fprintf(t, "\npage %s\n", p.Name)
		row("  id", p.ID)
		row("  token", p.Secrets.describe())
		if p.Secrets.AppSecretFile != "" {
			row("  app secret", "from "+p.Secrets.AppSecretFile)
		}
		row("  keys", fmt.Sprintf("%d", len(p.Keys)))
		row("  rate", fmt.Sprintf("%v calls/s, each worker for itself", p.Rate))
		row("  media rate", fmt.Sprintf("%v calls/s, each worker for itself", p.MediaRate))
		row("  max in flight", p.MaxInFlight)
		row("  in doubt", p.InDoubt)
		row("  expire", p.Expire)
	}
}

// describe says where the token comes from, never what it is.
func (s secrets) describe() string {
	if s.TokenFile != "" {
		return "from " + s.TokenFile
	}
	return "set, masked"
}

// withoutPassword masks the user part of each address in a list.
func withoutPassword(list string) string {
	parts := strings.Split(list, ",")
	for i, p := range parts {
		if scheme, rest, ok := strings.Cut(p, "://"); ok {
			if at := strings.LastIndexByte(rest, '@'); at >= 0 {
				parts[i] = scheme + "://xxxxx" + rest[at:]
			}
		}
	}
	return strings.Join(parts, ",")
}
