package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/brazier-relay/brazier/queue/ingress"
)

const description = `Brazier stands between Braze webhook campaigns and Facebook Messenger. Its door takes what Braze posts, its queue keeps it on disk, and its worker delivers it, with retries, at the pace Facebook allows.

New here? Run "brazier demo". It needs no settings, sends nothing to anybody, and shows all of it at work.

Every flag can also be set by the variable beside it, such as $BRAZIER_LISTEN; the flag counts where both are set. What stands behind the = is the default. Flags without = are switches, off by default, and BRAZIER_…=true turns them on.

Exit codes: 0 stopped as asked, 1 failed, 2 wrong settings, 3 stopped before everything was drained.`

var groups = []kong.Group{
	{Key: "letters", Title: "Which dead letters (all that are given have to fit):"},
	{Key: "door", Title: "The door (takes messages from Braze over HTTP):"},
	{Key: "pages", Title: "Pages:"},
	{Key: "graph", Title: "Facebook:"},
	{Key: "queue", Title: "The queue (NATS JetStream):"},
	{Key: "embedded", Title: "The queue (NATS JetStream inside this process):"},
	{Key: "sandbox", Title: "The simulated Send API:"},
	{Key: "load", Title: "The load:"},
	{Key: "started", Title: "What is started (without --url):"},
	{Key: "running", Title: "A door that runs already:"},
	{Key: "ops", Title: "Operations:"},
	{Key: "log", Title: "Logs (to standard error):"},
}

// vars are values that help texts and defaults share with the code.
var vars = kong.Vars{
	"version":       version(),
	"graph_url":     "https://graph.facebook.com",
	"graph_version": "v25.0",
	"classes":       classNames(),

	"listen":            ingress.DefaultListen,
	"max_body":          strconv.Itoa(ingress.DefaultMaxBody),
	"max_waiting":       strconv.Itoa(ingress.DefaultMaxWaiting),
	"max_waiting_bytes": strconv.Itoa(ingress.DefaultMaxWaitingBytes),
	"max_connections":   strconv.Itoa(ingress.DefaultMaxConnections),
	"store_wait":        ingress.DefaultWait.String(),

	"pages_help": "YAML file with the Facebook pages: ids, tokens, keys and rates. \"brazier check\" tells what is wrong with it.",
}

type commands struct {
	Version kong.VersionFlag `name:"version" env:"-" help:"Print the version."`

	Demo    demoCommand    `cmd:"" help:"Show it at work: everything in one process, against a simulated Facebook. Needs no settings."`
	Serve   serveCommand   `cmd:"" help:"Run everything on one machine: door, worker, and a queue whose files are in --data."`
	Ingress ingressCommand `cmd:"" help:"Run the door alone, against NATS servers. Any number of them may run."`
	Worker  workerCommand  `cmd:"" help:"Run a worker alone, against NATS servers. Any number of them may run."`
	Sandbox sandboxCommand `cmd:"" help:"Run a simulated Send API alone, to try things without Facebook."`
	Letters lettersCommand `cmd:"" name:"deadletters" help:"List, show, replay and discard messages that could not be delivered."`
	Pages   pagesCommand   `cmd:"" help:"List pages, stop sending for one, and go on."`
	Status  statusCommand  `cmd:"" help:"Show what waits, which pages are in trouble, and where NATS differs from the settings."`
	Setup   setupCommand   `cmd:"" help:"Make or change the streams and buckets in NATS, as the settings say."`
	Keys    keysCommand    `cmd:"" help:"Make keys for the callers of the door."`
	Bench   benchCommand   `cmd:"" help:"Post many messages, count what arrives, and print how fast, at which cost, and how late the answers were."`
	Check   checkCommand   `cmd:"" help:"Print the settings as the other commands see them, secrets masked, and all that is wrong with them."`
}

type pagesFlags struct {
	Pages string `name:"pages" default:"pages.yaml" type:"path" group:"pages" help:"${pages_help}"`
}

type doorFlags struct {
	Listen          string        `name:"listen" default:"${listen}" group:"door" help:"Address of the door. Braze reaches ports 80 and 443 only: give it a certificate, or put a proxy with TLS before it."`
	TLSCert         string        `name:"tls-cert" type:"path" placeholder:"FILE" group:"door" help:"PEM file with the door's certificate, and those between it and its authority. With it the door speaks HTTPS alone, HTTP/2 included. New files are used without a restart. Default: none."`
	TLSKey          string        `name:"tls-key" type:"path" placeholder:"FILE" group:"door" help:"PEM file with the key of --tls-cert. Default: none."`
	AllowFrom       networks      `name:"allow-from" placeholder:"CIDR,…" group:"door" help:"Addresses and networks that requests may come from, separated by commas; others are answered 403. Default: none, everybody may."`
	TrustedProxy    networks      `name:"trusted-proxy" placeholder:"CIDR,…" group:"door" help:"Addresses and networks of your own proxies: only from them X-Forwarded-For tells where a request comes from. Default: none."`
	MaxBody         int64         `name:"max-body" default:"${max_body}" group:"door" help:"Largest body of a request, in bytes. A larger one is answered 413."`
	MaxWaiting      int           `name:"max-waiting" default:"${max_waiting}" group:"door" help:"How many requests may wait for the queue at one time. Others are answered 503 at once, and Braze repeats them."`
	MaxWaitingBytes int64         `name:"max-waiting-bytes" default:"${max_waiting_bytes}" group:"door" help:"Memory for large bodies that arrive or wait, all together, in bytes. The first 4096 of each do not count. Others are answered 503 at once."`
	MaxConnections  int           `name:"max-connections" default:"${max_connections}" group:"door" help:"How many connections may be open at one time. Beyond that, the connection that has been idle longest is closed for a new one; if none has been idle for 2s, new connections wait to be accepted. Each connection takes about 20 KB of memory, or 50 KB with TLS, and one of the files that the process may open (ulimit -n)."`
	StoreWait       time.Duration `name:"store-wait" default:"${store_wait}" group:"door" help:"How long a request waits for a queue that cannot be reached before it is answered 503: two elections of a leader in a row, and some. Braze gives it 90s."`
}

// networks is a list of addresses and networks, as flags have them.
type networks []netip.Prefix

// UnmarshalText reads the whole list, so that a flag replaces what its variable says.
func (n *networks) UnmarshalText(text []byte) error {
	var list networks
	for item := range strings.SplitSeq(string(text), ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		network, err := netip.ParsePrefix(item)
		if addr, errAddr := netip.ParseAddr(item); errAddr == nil && addr.Zone() == "" {
			network, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			return fmt.Errorf("%q is no address and no network: write them like 203.0.113.7 or 203.0.113.0/24, separated by commas", item)
		}
		list = append(list, network)
	}
	*n = list
	return nil
}

func (n networks) String() string {
	items := make([]string, len(n))
	for i, network := range n {
		items[i] = network.String()
	}
	return strings.Join(items, ",")
}

type graphFlags struct {
	GraphURL      string        `name:"graph-url" default:"${graph_url}" group:"graph" help:"Address of the Graph API. Point it at a sandbox to send nothing to anybody."`
	GraphVersion  string        `name:"graph-version" default:"${graph_version}" group:"graph" help:"Version of the Graph API to call, whatever version the caller's URL has."`
	GraphInsecure bool          `name:"graph-insecure" group:"graph" help:"Allow http:// to another machine: for a sandbox in a container network. Tokens cross that network in the clear."`
	SendTimeout   time.Duration `name:"send-timeout" default:"90s" group:"graph" help:"How long a call to the Send API may take; 30s at most for a message without a file or template. Facebook may take 75s to fetch a video, and a call given up without an answer may have been sent."`
	SlowStart     time.Duration `name:"slow-start" default:"1m" group:"graph" help:"How long a page takes to reach its full rate after it was held."`
	ProbeEvery    time.Duration `name:"probe-every" default:"30m" group:"graph" help:"How long a page that may not send, by Facebook's word, is left alone before one message is tried."`
}

type natsFlags struct {
	NatsURL   string `name:"nats-url" default:"nats://127.0.0.1:4222" group:"queue" help:"NATS servers, separated by commas. A server that is not there is waited for."`
	NatsCreds string `name:"nats-creds" type:"path" placeholder:"FILE" group:"queue" help:"Credentials file for NATS (JWT and seed). Default: none."`
	NatsCA    string `name:"nats-ca" type:"path" placeholder:"FILE" group:"queue" help:"PEM file with the authority that signed the NATS servers' certificates. Default: none."`
	Replicas  int    `name:"replicas" default:"0" group:"queue" help:"Copies of each stored message, 1 to 5; 0 stands for three on a cluster, else one. Used when the streams are first made; later \"brazier setup\" changes them."`
}

type embeddedFlags struct {
	Data string `name:"data" default:"brazier-data" type:"path" group:"embedded" help:"Directory of the queue's files. It belongs to one process at a time."`
	Sync string `name:"sync" default:"always" enum:"always,interval" group:"embedded" help:"When messages are flushed to the disk. always: before they are answered 202, so that they outlive a power cut. interval: every 100ms, several times as fast; they outlive a crash of the process, but a power cut loses the last moment."`
}

// sizeFlags shape the streams when they are first made. What stands is changed by brazier setup.
type sizeFlags struct {
	MaxQueue int64         `name:"max-queue" default:"10737418240" group:"queue" help:"Undelivered messages that are kept, in bytes; beyond it the door answers 503. Used when the stream is first made; later \"brazier setup\" changes it."`
	DeadAge  time.Duration `name:"dead-age" default:"720h" group:"queue" help:"How long dead letters are kept. Used when their stream is first made; later \"brazier setup\" changes it."`
}

// streamFlags say what is kept, and for how long.
type streamFlags struct {
	sizeFlags
	KeyWindow time.Duration `name:"key-window" default:"2h" group:"queue" help:"How long an idempotency key is remembered: a message that comes again within it is not sent again, over restarts too. At least 10m. Each key takes about 250 bytes of NATS's memory and 300 of its disk for that time."`
}

type opsFlags struct {
	OpsListen string `name:"ops-listen" default:"${ops_listen}" group:"ops" help:"Address of /healthz (the process lives), /readyz (it is open and its queue takes messages) and /metrics (for Prometheus), or off. Keep it from strangers."`
	Pprof     bool   `name:"pprof" group:"ops" help:"Serve Go's profiles under /debug/pprof/ at --ops-listen. They show the process's memory, secrets and messages included."`
}

// inFlags words a room's complaint about its configuration for those who know its fields as flags.
func inFlags(err error) error {
	if err == nil {
		return nil
	}
	return reworded{err}
}

type reworded struct{ error }

var flagNames = strings.NewReplacer(
	"ingress: MaxBody:", "--max-body:",
	"ingress: MaxWaiting:", "--max-waiting:",
	"ingress: MaxWaitingBytes:", "--max-waiting-bytes:",
	"ingress: MaxConnections:", "--max-connections:",
	"is under MaxBody,", "is under --max-body,",
	"ingress: Wait:", "--store-wait:",
	"ingress: listen ", "--listen: listen ",
	"sendapi: GraphURL:", "--graph-url:",
	"sendapi: Version:", "--graph-version:",
	"sendapi: Timeout:", "--send-timeout:",
	"set AllowPlainHTTP", "set --graph-insecure",
	"Version has it", "--graph-version has it",
	"sandbox: Listen:", "--listen:",
	"sandbox: Control:", "--control-listen:",
	"set AllowRemote", "set --allow-remote",
)

func (r reworded) Error() string { return flagNames.Replace(r.error.Error()) }

func (r reworded) Unwrap() error { return r.error }
