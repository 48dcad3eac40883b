package process

import (
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
)

// DefaultGraphVersion is the version of the Graph API that is called unless a flag says otherwise.
const DefaultGraphVersion = "v25.0"

// PagesFlags say where the page file is.
type PagesFlags struct {
	Pages string `name:"pages" default:"pages.yaml" type:"path" group:"pages" help:"YAML file with the Facebook pages: ids, tokens, keys and rates. \"brazier check\" reports its faults."`
}

// IngressFlags are the settings of the ingress.
type IngressFlags struct {
	Listen           string        `name:"listen" default:"${listen}" group:"ingress" help:"Address to listen on, HOST:PORT. Braze can only reach ports 80 and 443: set --tls-cert, or run a TLS proxy in front."`
	TLSCert          string        `name:"tls-cert" type:"path" placeholder:"FILE" group:"ingress" help:"PEM file with the certificate and its intermediates. With it the ingress speaks HTTPS only. A renewed file is used without a restart. Default: none."`
	TLSKey           string        `name:"tls-key" type:"path" placeholder:"FILE" group:"ingress" help:"PEM file with the private key of --tls-cert. Default: none."`
	AllowFrom        networks      `name:"allow-from" placeholder:"CIDR,…" group:"ingress" help:"Addresses and networks that may send requests, separated by commas; other callers are answered 403. Default: none, anybody may."`
	WebhookAllowFrom networks      `name:"webhook-allow-from" placeholder:"CIDR,…" group:"ingress" help:"Addresses and networks that may send Facebook's webhooks, separated by commas; other callers are answered 403. Webhooks need a valid signature in any case. Default: none, anybody may."`
	MaxWebhookBody   cli.Size      `name:"max-webhook-body" default:"${max_webhook_body}" group:"ingress" help:"Largest body of a webhook. A larger one is answered 413."`
	MaxWebhooks      int           `name:"max-webhooks" default:"${max_webhooks}" group:"ingress" help:"How many webhooks may wait for the queue at one time, apart from messages. Others are answered 503, and Facebook sends them again."`
	MaxWebhookBytes  cli.Size      `name:"max-webhook-bytes" default:"${max_webhook_bytes}" group:"ingress" help:"Memory for the large bodies of webhooks that arrive or wait, all together. Others are answered 503."`
	TrustedProxy     networks      `name:"trusted-proxy" placeholder:"CIDR,…" group:"ingress" help:"Addresses and networks of your proxies. Only their X-Forwarded-For headers are believed. Default: none."`
	MaxBody          cli.Size      `name:"max-body" default:"${max_body}" group:"ingress" help:"Largest request body. A larger one is answered 413."`
	MaxWaiting       int           `name:"max-waiting" default:"${max_waiting}" group:"ingress" help:"Most requests that may wait for the queue at one time. More are answered 503 at once, and Braze retries them."`
	MaxWaitingBytes  cli.Size      `name:"max-waiting-bytes" default:"${max_waiting_bytes}" group:"ingress" help:"Most memory for the bodies of all waiting requests together, not counting the first 4 KiB of each. More requests are answered 503 at once."`
	MaxConnections   int           `name:"max-connections" default:"${max_connections}" group:"ingress" help:"Most connections that may be open at one time. Beyond it, a new connection replaces the one that has been idle longest; if none has been idle for 2s, it waits. Each takes about 20 KB of memory, or 50 KB with TLS, and one open file (ulimit -n)."`
	StoreWait        time.Duration `name:"store-wait" default:"${store_wait}" group:"ingress" help:"How long a request waits while the queue cannot be reached before it is answered 503. At most 80s: Braze gives a request 90s. The default outlasts two leader elections."`
}

// GraphFlags say how the Send API is called.
type GraphFlags struct {
	GraphURL      string        `name:"graph-url" default:"${graph_url}" group:"graph" help:"URL of the Graph API. Set it to a \"brazier sandbox\" to send no real messages."`
	GraphVersion  string        `name:"graph-version" default:"${graph_version}" group:"graph" help:"Version of the Graph API to call, whatever version the URL of a request names."`
	GraphInsecure bool          `name:"graph-insecure" group:"graph" help:"Allow http:// URLs of other machines, for a sandbox in a container network. Page tokens then cross the network unencrypted."`
	SendTimeout   time.Duration `name:"send-timeout" default:"90s" group:"graph" help:"Longest time for a call to the Send API; without a file or template to fetch, 30s at most. Facebook may take 75s to fetch a video, and a call that is abandoned may still have sent its message."`
	GraphSlow     time.Duration `name:"graph-slow" default:"5s" group:"graph" help:"Time that 95 of 100 calls to the Send API may take. When they take longer over a minute, the log says so. Calls with audio or video are not counted."`
	SlowStart     time.Duration `name:"slow-start" default:"1m" group:"graph" help:"Time in which a page returns to its full rate after a hold. 0s: at once."`
	ProbeEvery    time.Duration `name:"probe-every" default:"30m" group:"graph" help:"Time between attempts with a single message for a page that Facebook does not allow to send."`
}

// NATSFlags say where NATS servers are.
type NATSFlags struct {
	NatsURL string `name:"nats-url" default:"nats://127.0.0.1:4222" group:"queue" help:"URLs of the NATS servers, separated by commas. Brazier waits for servers that are down."`
	NATSCredentialFlags
	Replicas int `name:"replicas" default:"0" group:"queue" help:"Copies of each stored message, from 1 to 5. 0: three on a cluster, one on a single server. Used when the streams are created; \"brazier setup\" changes it later."`
}

// NATSCredentialFlags say who this process is to the NATS servers, and whom it trusts.
type NATSCredentialFlags struct {
	NatsCreds        string `name:"nats-creds" type:"path" placeholder:"FILE" group:"queue" help:"NATS credentials file (JWT and seed). Default: none."`
	NatsUser         string `name:"nats-user" placeholder:"NAME" group:"queue" help:"NATS user whose password comes from a file. Default: none, or the one in the URL."`
	NatsPasswordFile string `name:"nats-password-file" type:"path" placeholder:"FILE" group:"queue" help:"File with the password of --nats-user. Like the other files of NATS it is read again whenever a connection is made. Default: none."`
	NatsNkey         string `name:"nats-nkey" type:"path" placeholder:"FILE" group:"queue" help:"File with the seed of an nkey. Default: none."`
	NatsCert         string `name:"nats-cert" type:"path" placeholder:"FILE" group:"queue" help:"PEM file with the certificate that the NATS servers are shown. Default: none."`
	NatsKey          string `name:"nats-key" type:"path" placeholder:"FILE" group:"queue" help:"PEM file with the private key of --nats-cert. Default: none."`
	NatsCA           string `name:"nats-ca" type:"path" placeholder:"FILE" group:"queue" help:"PEM file with the CA that signed the certificates of the NATS servers. Default: none."`
}

// Credentials returns them as package queue takes them.
func (f NATSCredentialFlags) Credentials() queue.Credentials {
	return queue.Credentials{CredentialsFile: f.NatsCreds, User: f.NatsUser, PasswordFile: f.NatsPasswordFile, NkeyFile: f.NatsNkey,
		CertFile: f.NatsCert, KeyFile: f.NatsKey, CAFile: f.NatsCA}
}

// EmbeddedFlags are the settings of the NATS server in this process.
type EmbeddedFlags struct {
	Data string `name:"data" default:"brazier-data" type:"path" group:"embedded" help:"Directory of the queue's files. Only one process can use it at a time."`
	DataKeyFlags
	Sync string `name:"sync" default:"always" enum:"always,interval" group:"embedded" help:"When messages are flushed to disk. always: before a request is answered 202, so that no power cut loses an accepted message. interval: every 100ms, which is several times as fast, but a power cut loses the last 100ms."`
}

// DataKeyFlags say with what the files of the queue are encrypted.
type DataKeyFlags struct {
	DataKeyFile string `name:"data-key-file" type:"path" placeholder:"FILE" group:"embedded" help:"File with the key that encrypts the files in --data, at least 32 characters. A directory keeps the key that it was first used with. Default: none, nothing is encrypted."`
}

// SizeFlags shape the streams when they are created. brazier setup changes streams that exist.
type SizeFlags struct {
	MaxQueue cli.Size      `name:"max-queue" default:"10GiB" group:"queue" help:"Most disk space for undelivered messages, in each partition. When it is used up, requests are answered 503. Used when the stream is created; \"brazier setup\" changes it later."`
	DeadAge  time.Duration `name:"dead-age" default:"30d" group:"queue" help:"How long dead letters are kept. Used when their stream is created; \"brazier setup\" changes it later."`

	MaxUpdates  cli.Size      `name:"max-updates" default:"4GiB" group:"queue" help:"Most disk space for updates that Braze has not taken, and as much for what became of messages and is not an update yet. When it is used up, Braze is not told what became of messages; messages are delivered all the same. Used when the stream is created; \"brazier setup\" changes it later."`
	ReceiptsFor time.Duration `name:"receipts-for" default:"7d" group:"queue" help:"How long after a message Facebook's receipts for it are recognised, where Braze is told of them. Used when the bucket is created; \"brazier setup\" changes it later."`
}

// In returns cfg with the sizes.
func (f SizeFlags) In(cfg queue.Config) queue.Config {
	cfg.MaxBytes, cfg.DeadMaxAge, cfg.UpdatesMaxBytes, cfg.ReceiptsFor = int64(f.MaxQueue), f.DeadAge, int64(f.MaxUpdates), f.ReceiptsFor
	return cfg
}

// StreamFlags say what is kept, and for how long.
type StreamFlags struct {
	SizeFlags
	KeyWindow time.Duration `name:"key-window" default:"2h" group:"queue" help:"How long an idempotency key is remembered, also over restarts: a request with the same key is answered 202 and not sent again. Each key takes about 250 bytes of memory and 300 of disk in NATS."`
}

// OpsFlags are the settings of the ops listener.
type OpsFlags struct {
	OpsListen string `name:"ops-listen" default:"${ops_listen}" group:"ops" help:"Address of /healthz (the process is alive), /readyz (it can do its work) and /metrics (Prometheus); or off. Do not expose it to the internet."`
	Pprof     bool   `name:"pprof" group:"ops" help:"Serve Go profiles under /debug/pprof/ of the ops listener. They show the memory of the process, with secrets and messages."`
}
