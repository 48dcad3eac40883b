package sendapi

// Facebook's ceilings on calls to the Send API, for each page (Messenger rate
// limits page, Graph rate limiting guide). Each message is a call, and so is each
// sender action. A batch request does not help: each of its calls counts by itself.
//
// Three more limits have no constant. A page that sends more than 40 messages in a
// second "cannot send new messages until the volume decreases"; Facebook does not
// say after how long. A page may make 200 calls a day for each person that it can
// message, counted over a rolling 24 hours and shown in the usage headers (see
// [Usage]). Too many messages to one person are refused, from a number on that
// Facebook does not give.
const (
	// MaxCallsPerSecond is for text, links, reactions and stickers.
	MaxCallsPerSecond = 300

	// MaxMediaCallsPerSecond is for audio and video.
	MaxMediaCallsPerSecond = 10
)
