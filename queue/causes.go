package queue

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// diagnosis is an error for people: what is missing, why, and the remedy.
type diagnosis struct {
	what           dependency // what is missing
	reason, remedy string
	vague          bool // no more is known than that there is no answer
}

// cause is what some errors mean. In its texts {it} stands for what is missing.
type cause struct {
	errs  []error
	types []func(error) bool
	codes []jetstream.ErrorCode
	// at is what is missing; onAnything: what was asked for.
	at             kind
	vague          bool
	reason, remedy string
}

// isA reports whether an error is of a type.
func isA[T error](err error) bool { return errors.As(err, new(T)) }

var (
	errInProcess = errors.New("no connection to the embedded server")
	errNoServer  = errors.New("no NATS server answers")
	// errNoLeader says that a stream has no leader that can store something.
	errNoLeader = errors.New("no leader")
)

const (
	remedyServers = "start the missing NATS servers: more than half of them must run"
	remedyStart   = "start NATS, or correct --nats-url"
	remedyRights  = "give the user the rights of deploy/nats-users.conf"
)

// causes has every error that is known. The first that fits counts.
var causes = []cause{
	// The connection.
	{at: onConnection, errs: []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired},
		reason: "NATS refuses the user or the password", remedy: "correct the user in --nats-url, or what proves who it is: --nats-creds, --nats-password-file, --nats-nkey or --nats-cert"},
	{at: onConnection, types: []func(error) bool{isA[x509.UnknownAuthorityError], isA[x509.CertificateInvalidError]},
		reason: "the certificate of the NATS server is not trusted", remedy: "name the authority that signed it with --nats-ca, or renew it"},
	{at: onConnection, types: []func(error) bool{isA[x509.HostnameError]},
		reason: "the certificate of the NATS server is for another host name", remedy: "use a host name in --nats-url that the certificate names"},
	{at: onConnection, errs: []error{nats.ErrSecureConnRequired}, reason: "the NATS server requires TLS", remedy: "use tls:// in --nats-url"},
	{at: onConnection, errs: []error{nats.ErrSecureConnWanted}, reason: "the NATS server does not offer TLS", remedy: "use nats:// in --nats-url, or give the server a certificate"},
	{at: onConnection, types: []func(error) bool{isA[*net.DNSError]},
		reason: "the host name of the NATS server cannot be resolved", remedy: "correct --nats-url, or see why the name server does not answer"},
	{at: onConnection, errs: []error{syscall.ECONNREFUSED}, reason: "nothing listens at the address of NATS", remedy: remedyStart},
	{at: onConnection, errs: []error{nats.ErrMaxConnectionsExceeded, nats.ErrMaxAccountConnectionsExceeded},
		reason: "NATS accepts no more connections", remedy: "raise max_connections of the server or the account"},
	{at: onConnection, errs: []error{errInProcess},
		reason: "the embedded server is not running", remedy: "see the lines queue_stopped, queue_restart and disk_full; it starts again by itself once writes to the disk succeed"},
	{at: onConnection, vague: true, errs: []error{errNoServer, nats.ErrNoServers, nats.ErrDisconnected, nats.ErrConnectionClosed, nats.ErrConnectionReconnecting,
		nats.ErrReconnectBufExceeded, nats.ErrStaleConnection, nats.ErrInvalidConnection, net.ErrClosed, io.EOF},
		reason: "no NATS server answers", remedy: remedyStart},

	// JetStream.
	{at: onJetStream, errs: []error{jetstream.ErrJetStreamNotEnabledForAccount}, codes: []jetstream.ErrorCode{errCodeNoAccount},
		reason: "JetStream is not enabled for this account", remedy: "add \"jetstream: enabled\" to the account, or use a user of another account"},
	{at: onJetStream, errs: []error{jetstream.ErrJetStreamNotEnabled},
		reason: "JetStream is not enabled on this server", remedy: "start nats-server with -js, or with a jetstream block in its configuration"},

	// What was asked for.
	{errs: []error{errMayNotMake}, reason: "it does not exist, and this user may not create it", remedy: "start a worker, or " + remedySetup},
	{errs: []error{errNotAllowed, nats.ErrPermissionViolation}, reason: "this user may not do that", remedy: remedyRights},
	{at: onStream, errs: []error{errNoLeader}, reason: "no leader for {it}", remedy: remedyServers},
	{at: onStream, codes: []jetstream.ErrorCode{errCodeClusterIncomplete, errCodeClusterNotAvailable, errCodeClusterNotLeader},
		reason: "the NATS cluster has no leader", remedy: remedyServers},
	{at: onStream, codes: []jetstream.ErrorCode{errCodeStreamOffline, errCodeStreamOfflineReason},
		reason: "{it} is offline", remedy: "see the logs of the NATS servers: one of them cannot run the stream, usually because it is older than the server that made it"},
	{codes: []jetstream.ErrorCode{errCodeConsumerOffline, errCodeConsumerOfflineReason},
		reason: "{it} is offline", remedy: "see the logs of the NATS servers: one of them cannot run the consumer, usually because it is older than the server that made it"},
	{errs: []error{ErrFull}, codes: []jetstream.ErrorCode{errCodeStoreFailed, errCodeInsufficientResources, errCodeStorageExceeded},
		reason: "the queue is full, or the disk or the account under it", remedy: "see which page's messages wait (brazier status); raise --max-queue with brazier setup, or the limits of NATS"},
	{codes: []jetstream.ErrorCode{errCodeMemoryExceeded}, reason: "NATS has no memory for {it}", remedy: "raise max_memory_store of the servers or the account"},
	{codes: []jetstream.ErrorCode{errCodeNoPeers}, reason: "the NATS cluster does not have enough servers with space for it", remedy: "add servers, or use fewer replicas (--replicas)"},
	{codes: []jetstream.ErrorCode{errCodeMaxConsumers, errCodeMaxStreams, errCodeMaxBytesRequired, errCodeNoLimits, errCodeMaxStreamBytes},
		reason: "the limits of the NATS account do not allow it", remedy: "raise them"},
	{errs: []error{jetstream.ErrStreamNotFound, jetstream.ErrBucketNotFound, nats.ErrStreamNotFound, nats.ErrBucketNotFound},
		reason: "{it} does not exist", remedy: "start a worker, or " + remedySetup},
	{errs: []error{jetstream.ErrConsumerNotFound, jetstream.ErrConsumerDeleted}, reason: "it was removed", remedy: "find out what removes it: Brazier creates it again each time"},

	{at: onStream, vague: true, errs: []error{errConditionFailed}, reason: "another write to {it} is under way, and does not end", remedy: "see whether it has a leader (nats stream info), and the disks of the NATS servers"},

	// Reservations of slots.
	{errs: []error{errReserved}, vague: true, reason: "other workers reserve the slots first each time", remedy: "see what slows the answers of NATS to this worker"},
	{errs: []error{errLate}, vague: true, reason: "the answers of NATS come after the slots that they confirm", remedy: "see what slows NATS: its disks, its processors, the network"},
	{errs: []error{errMoved}, vague: true, reason: "the server that leads it changes again and again", remedy: "see the logs of the NATS servers"},
	{errs: []error{errTooFarAhead}, reason: "the next call is far in the future: a clock was wrong", remedy: "synchronise the clocks of the NATS servers by NTP"},

	{at: onStream, vague: true, errs: []error{errNoAnswer, context.DeadlineExceeded, nats.ErrTimeout, jetstream.ErrNoStreamResponse, nats.ErrNoStreamResponse, jetstream.ErrNoHeartbeat},
		reason: "{it} does not answer", remedy: "see whether it has a leader (nats stream info), and the disks of the NATS servers"},
	// Those with errNoAnswer are above. Here a request to JetStream itself has no responders.
	{at: onJetStream, errs: []error{nats.ErrNoResponders},
		reason: "JetStream is not enabled on this server", remedy: "start nats-server with -js, or with a jetstream block in its configuration"},
}

// fullBeside is what an error of a full stream means where the stream holds no messages.
var fullBeside = map[string]cause{
	StreamUpdates: fullOfUpdates, StreamOutcomes: fullOfUpdates,
	StreamEvents: {reason: "events of webhooks take all the space that they may, or the disk or the account under it is full",
		remedy: "start workers, or see in their logs why they take no events; Facebook sends what is refused again for an hour"},
}

var fullOfUpdates = cause{reason: "what waits for Braze takes all the space that it may, or the disk or the account under it is full",
	remedy: "see why Braze takes no updates (braze_held); raise --max-updates with brazier setup, or the limits of NATS"}

func (c *cause) fits(err error) bool {
	return slices.ContainsFunc(c.errs, func(known error) bool { return errors.Is(err, known) }) ||
		slices.ContainsFunc(c.types, func(is func(error) bool) bool { return is(err) }) ||
		len(c.codes) > 0 && hasCode(err, c.codes...)
}

// causeOf returns the cause of an error. An unknown error of a server is told by its description, and any other unknown
// error by its text, which is better than nothing.
func causeOf(err error) cause {
	for _, c := range causes {
		if c.fits(err) {
			return c
		}
	}
	var answer *jetstream.APIError
	if errors.As(err, &answer) {
		return cause{reason: "NATS refuses it: " + answer.Description, remedy: "see the logs of the NATS servers"}
	}
	return cause{vague: true, reason: "an error that Brazier does not know: " + redactText(err.Error()), remedy: "see the logs of the NATS servers"}
}

// located is an error of a request that needs several dependencies, with the one that it is about.
type located struct {
	what dependency
	error
}

func (l located) Unwrap() error { return l.error }

// explain returns what an error means to a caller that needs a dependency.
func (q *Queue) explain(what dependency, err error) diagnosis {
	var of located
	if errors.As(err, &of) {
		what = of.what
	}
	what = what.key()
	if bad := (*StreamError)(nil); errors.As(err, &bad) {
		return diagnosis{what: readsOf(bad.Stream), reason: bad.Reason, remedy: bad.Remedy}
	}
	c := causeOf(err)
	if beside, ok := fullBeside[what.stream]; ok && isFull(err) {
		c = beside
	}
	if what.kind == onConnection && c.at != onConnection || what.kind != onConnection && !q.nc.IsConnected() && c.at != onConnection {
		c = causeOf(errNoServer)
	}
	switch {
	case c.at == onConnection && q.cfg.InProcess != nil:
		c = causeOf(errInProcess)
	case c.vague && c.at != onConnection && q.refusals.recently(what):
		c = causeOf(errNotAllowed)
	}
	switch {
	case c.at == onConnection:
		what = theConnection
	case c.at == onJetStream:
		what = theJetStream
	case c.at == onStream && what.kind == onConsumer:
		what = readsOf(what.stream)
	}
	return diagnosis{what: what, reason: strings.ReplaceAll(c.reason, "{it}", what.String()), remedy: c.remedy, vague: c.vague}
}

// reasonFor returns the reason of an error for the caller of Publish, without texts of libraries.
func (q *Queue) reasonFor(what dependency, err error) string {
	switch {
	case q.nc.IsClosed():
		return "the connection to NATS is closed"
	case errors.Is(err, context.Canceled):
		return "the caller has gone"
	}
	return q.explain(what, err).reason
}
