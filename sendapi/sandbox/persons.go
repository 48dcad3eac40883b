package sandbox

import (
	"math/rand/v2"
	"strings"
)

// A person is a kind of recipient, chosen by how a PSID begins. Everybody else gets their messages.
type person struct {
	prefix string
	does   string // what happens to messages to this person, in one line
	// Code and Subcode are those of the Graph error answered; 0 if there is none.
	code, subcode int

	fault  Fault
	local  string // the message in another language
	title  string // error_user_title
	status int    // another HTTP status, used as often as the fault's
	once   bool   // only the first attempt at each message fails
	slow   bool   // Config.Slow passes first
}

// persons are the recipients that behave in a way of their own. The last digits of a prefix are those of its code, subcode
// or status, where it has one. Codes and subcodes are those of the Messenger error codes page and of responses that people
// pasted, statuses too as far as those give one (see the package comment).
var persons = resolvedPersons([]person{
	{prefix: "9000000551", does: "cannot be reached: 551/1545041", local: "(#551) Diese Person ist derzeit nicht erreichbar.",
		fault: Fault{Status: 400, Code: 551, Subcode: 1545041, Message: "(#551) This person isn't available right now."}},
	{prefix: "9000000047", does: "cannot be reached: 551/1893047, is_transient false", title: "Send Message Recipient Not Available",
		fault: Fault{Status: 400, Code: 551, Subcode: 1893047, Message: "This person isn't available right now.", Transient: new(false)}},
	{prefix: "9000000200", does: "cannot be reached: 200/1545041",
		fault: Fault{Status: 403, Code: 200, Subcode: 1545041, Message: "(#200) This person isn't available right now."}},
	{prefix: "9000000278", does: "is outside the messaging window: 10/2018278", local: "(#10) 这条消息是在消息发送时间窗以外发送的。",
		fault: Fault{Status: 400, Code: 10, Subcode: 2018278, Message: "(#10) This message is sent outside of allowed window."}},
	{prefix: "9000000065", does: "is outside the messaging window: 10/2018065",
		fault: Fault{Status: 400, Code: 10, Subcode: 2018065, Message: "(#10) This message is sent outside of allowed window."}},
	{prefix: "9000000001", does: "does not exist: 100/2018001", local: "(#100) Подходящий пользователь не найден",
		fault: Fault{Status: 400, Code: 100, Subcode: 2018001, Message: "(#100) No matching user found"}},
	{prefix: "9000000108", does: "cannot receive messages now: 10/2018108", local: "(#10) Cette personne ne peut pas recevoir vos messages.",
		fault: Fault{Status: 400, Code: 10, Subcode: 2018108, Message: "(#10) This person can't receive your messages right now."}},
	{prefix: "9000000300", does: "talks to another app, which holds the thread: 10/2018300",
		fault: Fault{Status: 400, Code: 10, Subcode: 2018300, Message: "(#10) Another app is controlling this thread now."}},
	{prefix: "9000000321", does: "is in an automated question flow of Messenger: 2018321",
		fault: Fault{Status: 400, Code: 2018321, Message: "(#2018321) Wait for the flow to finish."}},
	{prefix: "9000000338", does: "got too many tagged messages: 613/2018338",
		fault: Fault{Status: 400, Code: 613, Subcode: 2018338, Message: "(#613) Too many tagged messages to this person."}},
	{prefix: "9000000100", does: "makes every message a wrong one: 100", local: "Недопустимый параметр",
		fault: Fault{Status: 400, Code: 100, Message: "Invalid parameter"}},
	{prefix: "9000000500", does: "fails at the first attempt, HTTP 500, code 2; then gets the message", once: true, local: "Ein unerwarteter Fehler ist aufgetreten.",
		fault: Fault{Status: 500, Code: 2, Message: "An unexpected error has occurred. Please retry your request later.", Transient: new(true)}},
	{prefix: "9000000400", does: "fails at the first attempt, HTTP 400, code 2; then gets the message", once: true,
		fault: Fault{Status: 400, Code: 2, Message: "(#2) Service temporarily unavailable", Transient: new(true)}},
	{prefix: "9000000011", does: "fails at the first attempt, code -1; then gets the message", once: true,
		fault: Fault{Status: 400, Code: -1, Message: "(#-1) Unexpected internal error"}},
	{prefix: "9000000502", does: "fails at the first attempt, HTTP 502 with an HTML page; then gets the message", once: true,
		fault: Fault{Action: HTML}},
	{prefix: "9000000002", does: "fails at every attempt: HTTP 400 or 500, code 2", status: 500,
		fault: Fault{Status: 400, Code: 2, Message: "(#2) Service temporarily unavailable", Transient: new(true)}},
	{prefix: "9000000444", does: "gets the message, but the first answer is lost: the connection is cut", once: true,
		fault: Fault{Action: Reset, Accept: true}},
	{prefix: "9000000445", does: "does not get the message at the first attempt: the connection is cut", once: true,
		fault: Fault{Action: Reset}},
	{prefix: "9000000046", does: "gets the message, but the answer is an error: 1/1357046",
		fault: Fault{Status: 400, Code: 1, Subcode: 1357046, Message: "Received invalid JSON reply", Accept: true}},
	{prefix: "9000000005", does: "gets the message; the answer takes five seconds", slow: true, fault: Fault{Action: Pass}},
})

func resolvedPersons(list []person) []person {
	for i := range list {
		p := &list[i]
		f, err := p.fault.resolved()
		if err != nil {
			panic("sandbox: person " + p.prefix + ": " + err.Error())
		}
		p.fault, p.code, p.subcode = f, f.Code, f.Subcode
	}
	return list
}

// graphError returns the error that the person's messages are answered with, or nil.
func (p *person) graphError(rnd *rand.Rand) *graphError {
	e := p.fault.graphError()
	if e == nil {
		return nil
	}
	e.exact, e.local, e.title = false, p.local, p.title
	if p.status != 0 && rnd.IntN(2) == 0 {
		e.status = p.status
	}
	return e
}

func personOf(recipient string) *person {
	if !strings.HasPrefix(recipient, "9000000") {
		return nil
	}
	for i := range persons {
		if strings.HasPrefix(recipient, persons[i].prefix) {
			return &persons[i]
		}
	}
	return nil
}
