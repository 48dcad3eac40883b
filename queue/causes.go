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

// diagnosis is an error in words for people.
type diagnosis struct {
	what           awaited // what is missing
	reason, remedy string
	vague          bool // it is not known more than that nobody answers
}

// cause says what errors mean. In its texts {it} is what is missing.
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
	remedyServers = "start the NATS servers that are away: more than half of them have to run"
	remedyStart   = "start NATS, or correct --nats-url"
	remedyRights  = "give the user the rights of deploy/nats-users.conf"
)

// Server error codes of what is waited for (server/errors.json of nats-server).
const (
	errCodeClusterIncomplete     jetstream.ErrorCode = 10004
	errCodeClusterNotAvailable   jetstream.ErrorCode = 10008
	errCodeClusterNotLeader      jetstream.ErrorCode = 10009
	errCodeNoAccount             jetstream.ErrorCode = 10035
	errCodeStreamOffline         jetstream.ErrorCode = 10118
	errCodeConsumerOffline       jetstream.ErrorCode = 10119
	errCodeStreamOfflineReason   jetstream.ErrorCode = 10194
	errCodeConsumerOfflineReason jetstream.ErrorCode = 10195
)

// causes is every error that is known. The first that fits counts.
var causes = []cause{
	// The connection.
	{at: onConnection, errs: []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired},
		reason: "NATS refuses the user or the password", remedy: "correct --nats-url or --nats-creds"},
	{at: onConnection, types: []func(error) bool{isA[x509.UnknownAuthorityError], isA[x509.CertificateInvalidError]},
		reason: "the certificate of the NATS server is not trusted", remedy: "name the authority that signed it with --nats-ca, or renew it"},
	{at: onConnection, types: []func(error) bool{isA[x509.HostnameError]},
		reason: "the certificate of the NATS server is for another host name", remedy: "use in --nats-url a name that is in the certificate"},
	{at: onConnection, errs: []error{nats.ErrSecureConnRequired}, reason: "the NATS server takes TLS alone", remedy: "write tls:// in --nats-url"},
	{at: onConnection, errs: []error{nats.ErrSecureConnWanted}, reason: "the NATS server has no TLS", remedy: "write nats:// in --nats-url, or give the server a certificate"},
	{at: onConnection, types: []func(error) bool{isA[*net.DNSError]},
		reason: "the host name of the NATS server is not known", remedy: "correct --nats-url, or see why the name server does not answer"},
	{at: onConnection, errs: []error{syscall.ECONNREFUSED}, reason: "nothing listens at the address of NATS", remedy: remedyStart},
	{at: onConnection, errs: []error{nats.ErrMaxConnectionsExceeded, nats.ErrMaxAccountConnectionsExceeded},
		reason: "NATS takes no more connections", remedy: "raise max_connections of the server or the account"},
	{at: onConnection, errs: []error{errInProcess},
		reason: "the embedded server does not run", remedy: "see the lines queue_stopped, queue_restart and disk_full; it starts again by itself once the disk takes writes"},
	{at: onConnection, vague: true, errs: []error{errNoServer, nats.ErrNoServers, nats.ErrDisconnected, nats.ErrConnectionClosed, nats.ErrConnectionReconnecting,
		nats.ErrReconnectBufExceeded, nats.ErrStaleConnection, nats.ErrInvalidConnection, net.ErrClosed, io.EOF},
		reason: "no NATS server answers", remedy: remedyStart},

	// JetStream.
	{at: onJetStream, errs: []error{jetstream.ErrJetStreamNotEnabledForAccount}, codes: []jetstream.ErrorCode{errCodeNoAccount},
		reason: "JetStream is not enabled for this account", remedy: "write \"jetstream: enabled\" into the account, or use a user of another one"},
	{at: onJetStream, errs: []error{jetstream.ErrJetStreamNotEnabled},
		reason: "JetStream is not enabled on this server", remedy: "start nats-server with -js, or with a jetstream block in its configuration"},

	// What was asked for.
	{errs: []error{errMayNotMake}, reason: "it is not there, and this user may not make it", remedy: "start a worker, or " + remedySetup},
	{errs: []error{errNotAllowed, nats.ErrPermissionViolation}, reason: "this user may not do that", remedy: remedyRights},
	{at: onStream, errs: []error{errNoLeader}, reason: "no leader for {it}", remedy: remedyServers},
	{at: onStream, codes: []jetstream.ErrorCode{errCodeClusterIncomplete, errCodeClusterNotAvailable, errCodeClusterNotLeader},
		reason: "the NATS cluster has no leader", remedy: remedyServers},
	{at: onStream, codes: []jetstream.ErrorCode{errCodeStreamOffline, errCodeStreamOfflineReason},
		reason: "{it} is offline", remedy: "see the logs of the NATS servers: one of them cannot run the stream, mostly since it is older than what made it"},
	{codes: []jetstream.ErrorCode{errCodeConsumerOffline, errCodeConsumerOfflineReason},
		reason: "{it} is offline", remedy: "see the logs of the NATS servers: one of them cannot run the consumer, mostly since it is older than what made it"},
	{errs: []error{ErrFull}, codes: []jetstream.ErrorCode{errCodeStoreFailed, errCodeInsufficientResources, errCodeStorageExceeded},
		reason: "the queue is full, or the disk or the account under it", remedy: "see which page's messages wait (brazier status); raise --max-queue with brazier setup, or the limits of NATS"},
	{codes: []jetstream.ErrorCode{errCodeMemoryExceeded}, reason: "NATS has no memory for {it}", remedy: "raise max_memory_store of the servers or the account"},
	{codes: []jetstream.ErrorCode{errCodeNoPeers}, reason: "the NATS cluster has not enough servers with room for it", remedy: "add servers, or ask for fewer replicas (--replicas)"},
	{codes: []jetstream.ErrorCode{errCodeMaxConsumers, errCodeMaxStreams, errCodeMaxBytesRequired, errCodeNoLimits, errCodeMaxStreamBytes},
		reason: "the limits of the NATS account do not allow it", remedy: "raise them"},
	{errs: []error{jetstream.ErrStreamNotFound, jetstream.ErrBucketNotFound, nats.ErrStreamNotFound, nats.ErrBucketNotFound},
		reason: "{it} is not there", remedy: "start a worker, or " + remedySetup},
	{errs: []error{jetstream.ErrConsumerNotFound, jetstream.ErrConsumerDeleted}, reason: "it was removed", remedy: "find out who removes it: it is made again each time"},

	{at: onStream, vague: true, errs: []error{errTaken}, reason: "another write to {it} is under way, and does not end", remedy: "see whether it has a leader (nats stream info), and the disks of the NATS servers"},

	// Reservations of slots.
	{errs: []error{errReserved}, vague: true, reason: "other workers reserve first each time", remedy: "see what slows the answers of NATS to this worker"},
	{errs: []error{errLate}, vague: true, reason: "the answers of NATS come later than the moments that they are about", remedy: "see what slows NATS: its disks, its processors, the network"},
	{errs: []error{errMoved}, vague: true, reason: "the server that has it changes again and again", remedy: "see the logs of the NATS servers"},
	{errs: []error{errStrayed}, reason: "the next call is far in the future: a clock was wrong", remedy: "set the clocks of the NATS servers by NTP"},

	{at: onStream, vague: true, errs: []error{errNoAnswer, context.DeadlineExceeded, nats.ErrTimeout, jetstream.ErrNoStreamResponse, nats.ErrNoStreamResponse, jetstream.ErrNoHeartbeat},
		reason: "{it} does not answer", remedy: "see whether it has a leader (nats stream info), and the disks of the NATS servers"},
	// Not with errNoAnswer: nobody answers JetStream's own requests.
	{at: onJetStream, errs: []error{nats.ErrNoResponders},
		reason: "JetStream is not enabled on this server", remedy: "start nats-server with -js, or with a jetstream block in its configuration"},
}

func (c *cause) fits(err error) bool {
	return slices.ContainsFunc(c.errs, func(known error) bool { return errors.Is(err, known) }) ||
		slices.ContainsFunc(c.types, func(is func(error) bool) bool { return is(err) }) ||
		len(c.codes) > 0 && hasCode(err, c.codes...)
}

// causeOf puts an error in words. What is not known is told by the server's description, and an error that no server has
// described by its text: that is better than nothing.
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

// about is an error that came from one of several things.
type about struct {
	what awaited
	error
}

func (a about) Unwrap() error { return a.error }

// explain says what an error means to who waits.
func (q *Queue) explain(what awaited, err error) diagnosis {
	var of about
	if errors.As(err, &of) {
		what = of.what
	}
	what = what.key()
	if bad := (*ConfigError)(nil); errors.As(err, &bad) {
		return diagnosis{what: readsOf(bad.Stream), reason: bad.Reason, remedy: bad.Remedy}
	}
	c := causeOf(err)
	if what.kind == onConnection && c.at != onConnection || what.kind != onConnection && !q.nc.IsConnected() && c.at != onConnection {
		c = causeOf(errNoServer)
	}
	switch {
	case c.at == onConnection && q.cfg.InProcess != nil:
		c = causeOf(errInProcess)
	case c.vague && c.at != onConnection && q.refusals.lately(what):
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

// plain is an error for a caller, in words.
func (q *Queue) plain(what awaited, err error) string {
	switch {
	case q.nc.IsClosed():
		return "the connection to NATS is closed"
	case errors.Is(err, context.Canceled):
		return "the caller has gone"
	}
	return q.explain(what, err).reason
}
