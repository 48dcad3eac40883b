package process

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
	"github.com/brazier-relay/brazier/queue/ingress"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
	"github.com/brazier-relay/brazier/worker/deliver"
)

// Each group of flags has a method Faults: what is wrong with them, joined, each a *[cli.FlagError] where one flag is at
// fault. The packages that do the work judge their settings by themselves, in Validate of their Config: here are only the
// names of their fields as flags, and what no package knows. A role refuses what Faults returns before it starts anything,
// and brazier check prints it.
var (
	ingressFlags = map[string]string{"Listen": "--listen", "MaxBody": "--max-body", "MaxWaiting": "--max-waiting", "MaxWaitingBytes": "--max-waiting-bytes",
		"MaxConnections": "--max-connections", "Wait": "--store-wait", "AllowFrom": "--allow-from", "WebhookAllowFrom": "--webhook-allow-from", "MaxWebhookBody": "--max-webhook-body", "MaxWebhooksWaiting": "--max-webhooks", "MaxWebhookBytes": "--max-webhook-bytes", "TrustedProxies": "--trusted-proxy"}
	sendAPIFlags  = map[string]string{"GraphURL": "--graph-url", "Version": "--graph-version", "Timeout": "--send-timeout"}
	workerFlags   = map[string]string{"SlowStart": "--slow-start", "GraphSlow": "--graph-slow"}
	deliverFlags  = map[string]string{"ProbeEvery": "--probe-every"}
	embeddedFlags = map[string]string{"Dir": "--data", "Sync": "--sync"}
	queueFlags    = map[string]string{"URL": "--nats-url", "Replicas": "--replicas", "Partitions": "--partitions", "Window": "--key-window", "MaxBytes": "--max-queue", "DeadMaxAge": "--dead-age", "UpdatesMaxBytes": "--max-updates", "ReceiptsFor": "--receipts-for",
		"CredentialsFile": "--nats-creds", "User": "--nats-user", "PasswordFile": "--nats-password-file", "NkeyFile": "--nats-nkey", "CertFile": "--nats-cert", "KeyFile": "--nats-key", "CAFile": "--nats-ca"}
)

// InFlags names the fields in a package's configuration errors as flags, by a table of them. What is about no field in the
// table stays as it is.
func InFlags(err error, flags map[string]string) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, one := range joined.Unwrap() {
			all = append(all, InFlags(one, flags))
		}
		return errors.Join(all...)
	}
	if field, fault := configField(err); flags[field] != "" {
		return &cli.FlagError{Flag: flags[field], Fault: fault}
	}
	return err
}

func configField(err error) (field, fault string) {
	if e, ok := errors.AsType[*ingress.ConfigError](err); ok {
		return e.Field, e.Fault
	}
	if e, ok := errors.AsType[*queue.ConfigError](err); ok {
		return e.Field, e.Fault
	}
	if e, ok := errors.AsType[*embedded.ConfigError](err); ok {
		return e.Field, e.Fault
	}
	if e, ok := errors.AsType[*sendapi.ConfigError](err); ok {
		return e.Field, e.Fault
	}
	if e, ok := errors.AsType[*worker.ConfigError](err); ok {
		return e.Field, e.Fault
	}
	if e, ok := errors.AsType[*deliver.ConfigError](err); ok {
		return e.Field, e.Fault
	}
	return "", ""
}

// QueueInFlags is InFlags for errors of package queue.
func QueueInFlags(err error) error { return InFlags(err, queueFlags) }

// SendAPIInFlags is InFlags for the fields of [sendapi.Config].
func SendAPIInFlags(err error) error { return InFlags(err, sendAPIFlags) }

// zero refuses 0 for a flag: in a package's Config it would mean the default, which is not what somebody asked for.
func zero(flag string, isZero bool) error {
	if isZero {
		return &cli.FlagError{Flag: flag, Fault: "must be above 0 (got 0)"}
	}
	return nil
}

func (f IngressFlags) config() ingress.Config {
	return ingress.Config{Listen: f.Listen, MaxBody: int64(f.MaxBody), Wait: f.StoreWait, MaxWaiting: f.MaxWaiting, MaxWaitingBytes: int64(f.MaxWaitingBytes),
		MaxConnections: f.MaxConnections, AllowFrom: f.AllowFrom, WebhookAllowFrom: f.WebhookAllowFrom,
		MaxWebhookBody: int64(f.MaxWebhookBody), MaxWebhooksWaiting: f.MaxWebhooks, MaxWebhookBytes: int64(f.MaxWebhookBytes), TrustedProxies: f.TrustedProxy}
}

// Faults returns what is wrong with the settings of the ingress. It reads the certificate.
func (f IngressFlags) Faults() error {
	_, certificate := f.ReadCertificate()
	return errors.Join(InFlags(f.config().Validate(), ingressFlags), zero("--listen", f.Listen == ""), zero("--max-body", f.MaxBody == 0),
		zero("--max-waiting", f.MaxWaiting == 0), zero("--max-waiting-bytes", f.MaxWaitingBytes == 0), zero("--max-connections", f.MaxConnections == 0),
		zero("--store-wait", f.StoreWait == 0), certificate)
}

func (f GraphFlags) clientConfig() sendapi.Config {
	return sendapi.Config{GraphURL: f.GraphURL, Version: f.GraphVersion, Timeout: f.SendTimeout, AllowPlainHTTP: f.GraphInsecure}
}

func (f GraphFlags) workerConfig() worker.Config {
	slowStart := f.SlowStart
	if slowStart == 0 { // none; in Config it would be the default
		slowStart = time.Millisecond
	}
	return worker.Config{Host: graphHost(f.GraphURL), SlowStart: slowStart, GraphSlow: f.GraphSlow}
}

// Faults returns what is wrong with how the Send API is to be called.
func (f GraphFlags) Faults() error {
	client := f.clientConfig()
	graph := InFlags(client.Validate(), sendAPIFlags)
	client.AllowPlainHTTP = true
	if graph != nil && client.Validate() == nil {
		graph = fmt.Errorf("%w (--graph-insecure)", graph)
	}
	return errors.Join(graph, InFlags(f.workerConfig().Validate(), workerFlags), InFlags(deliver.Config{ProbeEvery: f.ProbeEvery}.Validate(), deliverFlags),
		zero("--send-timeout", f.SendTimeout == 0), zero("--graph-slow", f.GraphSlow == 0), zero("--probe-every", f.ProbeEvery == 0))
}

// Faults returns what is wrong with how NATS servers are to be reached. It reads the files, and calls nobody.
func (f NATSFlags) Faults() error {
	cfg := queue.Config{URL: f.NatsURL, Replicas: f.Replicas, Credentials: f.Credentials()}
	return InFlags(errors.Join(cfg.Validate(), cfg.ValidateFiles()), queueFlags)
}

// Faults returns what is wrong with the settings of the NATS server in this process. It reads the file of the key.
func (f EmbeddedFlags) Faults() error {
	_, err := f.Key()
	return errors.Join(InFlags(f.config().Validate(), embeddedFlags), err)
}

func (f EmbeddedFlags) config() embedded.Config {
	return embedded.Config{Dir: f.Data, Sync: embedded.Sync(f.Sync)}
}

// Key returns the key of the directory's files, empty if there is none.
func (f DataKeyFlags) Key() (string, error) {
	if f.DataKeyFile == "" {
		return "", nil
	}
	key, err := embedded.ReadKey(f.DataKeyFile)
	if err != nil {
		return "", &cli.FlagError{Flag: "--data-key-file", Fault: err.Error()}
	}
	return key, nil
}

// DataInFlags names the flags of an error of [embedded.Start], and the remedy.
func DataInFlags(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, embedded.ErrInUse):
		return cli.Usagef("--data: %w: stop it, or give this one a directory of its own", err)
	case errors.Is(err, embedded.ErrEncrypted):
		return cli.Usagef("--data: %w: name the file of their key with --data-key-file", err)
	case errors.Is(err, embedded.ErrWrongKey):
		return cli.Usagef("--data-key-file: %w: name the file with the key that this directory was first used with", err)
	case errors.Is(err, embedded.ErrNotEncrypted):
		return cli.Usagef("--data-key-file: %w: name a new directory with --data, and move the messages as deploy/README.md shows; "+
			"or leave --data-key-file out", err)
	}
	return fmt.Errorf("--data: %w", err)
}

// Faults returns what is wrong with the sizes of streams.
func (f SizeFlags) Faults() error {
	return errors.Join(InFlags(f.In(queue.Config{}).Validate(), queueFlags),
		zero("--max-queue", f.MaxQueue == 0), zero("--dead-age", f.DeadAge == 0), zero("--max-updates", f.MaxUpdates == 0), zero("--receipts-for", f.ReceiptsFor == 0))
}

// Faults returns what is wrong with what is kept.
func (f StreamFlags) Faults() error {
	return errors.Join(f.SizeFlags.Faults(), InFlags(queue.Config{Window: f.KeyWindow}.Validate(), queueFlags), zero("--key-window", f.KeyWindow == 0))
}

// off is the address of an ops listener that there is none of.
const off = "off"

// Faults returns what is wrong with the settings of the ops listener. listen is the address of the ingress, if there is one.
func (f OpsFlags) Faults(listen string) error {
	if f.OpsListen == off {
		return nil
	}
	_, port, err := net.SplitHostPort(f.OpsListen)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return &cli.FlagError{Flag: "--ops-listen", Fault: fmt.Sprintf("must be HOST:PORT or off (got %q)", f.OpsListen)}
	}
	if f.OpsListen == listen && !strings.HasSuffix(listen, ":0") { // port 0 is a free one each time
		return &cli.FlagError{Flag: "--ops-listen", Fault: fmt.Sprintf("must not be the address of --listen (got %q): choose another, or off", listen)}
	}
	return nil
}

func (c ServeCommand) faults() error {
	return errors.Join(c.IngressFlags.Faults(), c.GraphFlags.Faults(), c.EmbeddedFlags.Faults(), c.StreamFlags.Faults(), c.OpsFlags.Faults(c.Listen))
}

func (c IngressCommand) faults() error {
	return errors.Join(c.IngressFlags.Faults(), c.NATSFlags.Faults(), c.StreamFlags.Faults(), c.OpsFlags.Faults(c.Listen))
}

func (c WorkerCommand) faults() error {
	return errors.Join(c.GraphFlags.Faults(), c.NATSFlags.Faults(), c.StreamFlags.Faults(), c.OpsFlags.Faults(""))
}

// Faults lists the single errors in a joined one.
func Faults(err error) (all []error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			all = append(all, Faults(one)...)
		}
		return all
	}
	if err != nil {
		all = append(all, err)
	}
	return all
}
