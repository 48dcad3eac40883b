package queue

import (
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// Server error codes of a write that is refused (server/errors.json of nats-server).
const (
	errCodeWrongLastSequence         jetstream.ErrorCode = 10071
	errCodeWrongLastSequenceConstant jetstream.ErrorCode = 10164 // another write is under way after which the condition would not hold
	errCodeDuplicateInBatch          jetstream.ErrorCode = 10201 // the message id of an atomic batch is known: the batch is stored
	errCodeMessageTooLarge           jetstream.ErrorCode = 10054
)

// Server error codes of streams that cannot be made or changed as asked (server/errors.json of nats-server).
const (
	errCodeNoPeers              jetstream.ErrorCode = 10005
	errCodeMaxConsumers         jetstream.ErrorCode = 10026
	errCodeMaxStreams           jetstream.ErrorCode = 10027
	errCodeMemoryExceeded       jetstream.ErrorCode = 10028
	errCodeInvalidConfig        jetstream.ErrorCode = 10052
	errCodeSubjectOverlap       jetstream.ErrorCode = 10065
	errCodeReplicasNotSupported jetstream.ErrorCode = 10074
	errCodeMaxBytesRequired     jetstream.ErrorCode = 10113
	errCodeNoLimits             jetstream.ErrorCode = 10120
	errCodeMaxStreamBytes       jetstream.ErrorCode = 10122
)

// Server error codes that mean an outage (server/errors.json of nats-server).
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

// Server error codes of a stream or a disk without space (server/errors.json of nats-server).
const (
	errCodeStoreFailed           jetstream.ErrorCode = 10077 // a limit of the stream; the text tells which
	errCodeInsufficientResources jetstream.ErrorCode = 10023
	errCodeStorageExceeded       jetstream.ErrorCode = 10047
)

// hasCode reports whether err is an answer of the server with one of the codes.
func hasCode(err error, codes ...jetstream.ErrorCode) bool {
	var js jetstream.JetStreamError
	return errors.As(err, &js) && js.APIError() != nil && slices.Contains(codes, js.APIError().ErrorCode)
}

// refused makes errConditionFailed of the server's error that a condition does not hold, and ErrTooLarge of the one
// about the size.
func refused(err *jetstream.APIError) error {
	switch err.ErrorCode {
	case errCodeWrongLastSequence, errCodeWrongLastSequenceConstant:
		return fmt.Errorf("%w: %w", errConditionFailed, err)
	case errCodeMessageTooLarge:
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return err
}

// errConditionFailed says that the condition of a write does not hold.
var errConditionFailed = errors.New("another message stands in its way")

func isConditionFailed(err error) bool {
	return errors.Is(err, errConditionFailed) || hasCode(err, errCodeWrongLastSequence, errCodeWrongLastSequenceConstant)
}
