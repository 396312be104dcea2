package imap

import (
	"errors"
	"strings"
	"time"

	goimap "github.com/emersion/go-imap/v2"

	"hongyan/cluster/client"
)

// errGoodbye ends a connection whose client was told so.
var errGoodbye = errors.New("said goodbye")

// state is how far a client has come (RFC 9051 section 3); a handler's states are a set of them.
type state uint8

const (
	stateStranger state = 1 << iota
	stateUser
	stateSelected

	anyState   = stateStranger | stateUser | stateSelected
	userStates = stateUser | stateSelected
)

// handler runs a command.
type handler struct {
	states state
	run    func(s *session, c *call) error
	// steady says that sequence numbers keep their meaning until the command's answer: no EXPUNGE is told (RFC 9051 section 7.5.1)
	steady bool
}

// call is a command under way.
type call struct {
	tag, name string
	uid       bool
	code      string       // response code of the OK
	text      string       // of the OK; "" is that the command is completed
	after     func() error // what follows the OK, once it is sent
	highest   bool         // the OK tells the mailbox's modseq to clients that count on it
}

// commands are all that there are. Those with "UID " in front are handled by the same code, which looks at call.uid.
func commands() map[string]handler {
	return map[string]handler{
		"CAPABILITY":   {states: anyState, run: (*session).capability},
		"NOOP":         {states: anyState, run: (*session).noop},
		"LOGOUT":       {states: anyState, run: (*session).logout},
		"ID":           {states: anyState, run: (*session).id},
		"STARTTLS":     {states: anyState, run: (*session).startTLS},
		"LOGIN":        {states: stateStranger, run: (*session).login},
		"AUTHENTICATE": {states: stateStranger, run: (*session).authenticate},
		"ENABLE":       {states: userStates, run: (*session).enable},
		"COMPRESS":     {states: userStates, run: (*session).compress},
		"NAMESPACE":    {states: userStates, run: (*session).namespace},
		"SELECT":       {states: userStates, run: (*session).selectCommand},
		"EXAMINE":      {states: userStates, run: (*session).selectCommand},
		"CREATE":       {states: userStates, run: (*session).create},
		"DELETE":       {states: userStates, run: (*session).delete},
		"RENAME":       {states: userStates, run: (*session).rename},
		"SUBSCRIBE":    {states: userStates, run: (*session).subscribe},
		"UNSUBSCRIBE":  {states: userStates, run: (*session).subscribe},
		"LIST":         {states: userStates, run: (*session).list},
		"LSUB":         {states: userStates, run: (*session).list},
		"STATUS":       {states: userStates, run: (*session).status},
		"GETQUOTA":     {states: userStates, run: (*session).getQuota},
		"GETQUOTAROOT": {states: userStates, run: (*session).getQuotaRoot},
		"SETQUOTA":     {states: userStates, run: (*session).setQuota},
		"APPEND":       {states: userStates, run: (*session).append},
		"GETMETADATA":  {states: userStates, run: (*session).getMetadata},
		"SETMETADATA":  {states: userStates, run: (*session).setMetadata},
		"SETACL":       {states: userStates, run: (*session).setACL},
		"DELETEACL":    {states: userStates, run: (*session).deleteACL},
		"GETACL":       {states: userStates, run: (*session).getACL},
		"LISTRIGHTS":   {states: userStates, run: (*session).listRights},
		"MYRIGHTS":     {states: userStates, run: (*session).myRights},
		"NOTIFY":       {states: userStates, run: (*session).notifyCommand},
		"IDLE":         {states: userStates, run: (*session).idle},
		"CHECK":        {states: stateSelected, run: (*session).noop},
		"CLOSE":        {states: stateSelected, run: (*session).closeMailbox},
		"UNSELECT":     {states: stateSelected, run: (*session).unselect},
		"EXPUNGE":      {states: stateSelected, run: (*session).expunge},
		"UID EXPUNGE":  {states: stateSelected, run: (*session).expunge},
		"CANCELUPDATE": {states: stateSelected, run: (*session).cancelUpdate},
		"SEARCH":       {states: stateSelected, run: (*session).search, steady: true},
		"UID SEARCH":   {states: stateSelected, run: (*session).search},
		"SORT":         {states: stateSelected, run: (*session).sort, steady: true},
		"UID SORT":     {states: stateSelected, run: (*session).sort},
		"THREAD":       {states: stateSelected, run: (*session).thread, steady: true},
		"UID THREAD":   {states: stateSelected, run: (*session).thread},
		"FETCH":        {states: stateSelected, run: (*session).fetch, steady: true},
		"UID FETCH":    {states: stateSelected, run: (*session).fetch},
		"STORE":        {states: stateSelected, run: (*session).store, steady: true},
		"UID STORE":    {states: stateSelected, run: (*session).store},
		"COPY":         {states: stateSelected, run: (*session).copy},
		"UID COPY":     {states: stateSelected, run: (*session).copy},
		"MOVE":         {states: stateSelected, run: (*session).move},
		"UID MOVE":     {states: stateSelected, run: (*session).move},
		"REPLACE":      {states: stateSelected, run: (*session).replace},
		"UID REPLACE":  {states: stateSelected, run: (*session).replace},
	}
}

// serve greets the client and runs its commands, until one side has had enough.
func (s *session) serve() error {
	s.out.Line("* OK [CAPABILITY " + s.capabilities() + "] " + s.srv.cfg.Hostname + " IMAP server ready")
	for {
		if reason := s.enough(); reason != "" {
			s.c.refuseInput(reason)
			return errGoodbye
		}
		if err := s.rest(); err != nil {
			return err
		}
		if err := s.dec.Next(); err != nil {
			return err
		}
		if err := s.command(); err != nil {
			return err
		}
	}
}

// enough says why the client may not send another command.
func (s *session) enough() string {
	switch l := &s.srv.cfg.Limits; {
	case s.failures >= l.MaxLogins && s.state == stateStranger:
		return "Too many failed logins"
	case s.bad >= l.MaxBad:
		return "Too many bad commands"
	case s.state == stateStranger && s.count >= maxStrange:
		return "Too many commands before a login"
	}
	return ""
}

// command runs the command whose first line was read, and answers it. An error ends the connection.
func (s *session) command() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	if s.dec.AtEnd() { // a stray empty line
		s.bad++
		return nil
	}
	s.srv.stats.commands.Add(1)
	c := &call{tag: s.dec.Tag()}
	was := s.sel
	h, err := s.begin(c)
	if err == nil {
		s.pace = pace{tag: c.tag, next: time.Now().Add(s.srv.cfg.Limits.ProgressInterval)}
		err = h.run(s, c)
	}
	if !fatal(err) {
		if skipped := s.dec.Finish(); skipped != nil {
			err = skipped
		}
	}
	// What SELECT says is of one moment: no message that came since may get in, UIDNEXT being told.
	if s.sel == was && !s.run.goesOn(s.count) && (err == nil || h.run != nil && refused(err)) {
		failed := s.poll(h.steady)
		if err == nil {
			err = failed
			s.addHighest(c)
		} else if failed != nil && s.c.isClosed() { // else the refusal is told all the same
			err = failed
		}
	}
	return s.finish(c, err)
}

// begin finds out which command it is.
func (s *session) begin(c *call) (handler, error) {
	if c.tag == "" {
		c.tag = "*"
		return handler{}, bad("Expected a tag and a command")
	}
	if !s.dec.Try(' ') {
		return handler{}, bad("Expected a command")
	}
	name, err := s.dec.Atom()
	if c.name = strings.ToUpper(name); err == nil && c.name == "UID" {
		if err = s.dec.SP(); err == nil {
			name, err = s.dec.Atom()
		}
		c.uid, c.name = true, "UID "+strings.ToUpper(name)
	}
	if err != nil {
		return handler{}, err
	}
	h, ok := s.srv.commands[c.name]
	switch {
	case !ok:
		return h, bad("Unknown command")
	case !s.c.secured && h.states&stateStranger == 0:
		return h, bad("Only valid after STARTTLS and login")
	case h.states&s.state == 0:
		return h, bad("Not valid in this state")
	}
	return h, nil
}

// fatal says whether an error leaves nothing to answer: neither we nor the grammar made it.
func fatal(err error) bool {
	var answer *goimap.Error
	return err != nil && !errors.As(err, &answer)
}

// refused says whether a command ends in a NO with which updates are told: without EXPUNGE a client could not know which number became void. While the cluster cannot be
// asked nobody waits for them.
func refused(err error) bool {
	var answer *goimap.Error
	return errors.As(err, &answer) && answer.Type == goimap.StatusResponseTypeNo && answer.Code != goimap.ResponseCodeUnavailable
}

// finish answers a command.
func (s *session) finish(c *call, err error) error {
	if err == nil {
		return s.succeed(c)
	}
	var answer *goimap.Error
	if !errors.As(err, &answer) {
		return err
	}
	if answer.Type == goimap.StatusResponseTypeBad {
		s.bad++
		s.srv.stats.bad.Add(1)
	}
	s.out.Raw(c.tag).SP().Raw(string(answer.Type)).SP()
	if answer.Code != "" {
		s.out.Raw("[").Raw(string(answer.Code)).Raw("] ")
	}
	return s.out.Line(answer.Text).Err()
}

// succeed answers OK.
func (s *session) succeed(c *call) error {
	s.bad = 0
	s.out.Raw(c.tag).Raw(" OK ")
	if c.code != "" {
		s.out.Raw("[").Raw(c.code).Raw("] ")
	}
	if c.text == "" {
		s.out.Raw(c.name).Raw(" completed\r\n")
	} else {
		s.out.Line(c.text)
	}
	if c.after == nil {
		return s.out.Err()
	}
	if err := s.out.Flush(); err != nil {
		return err
	}
	return c.after()
}

// poll tells what happened since the last command.
func (s *session) poll(steady bool) error {
	if s.sel == nil {
		return nil
	}
	if err := s.update(!steady); err != nil && !errors.Is(err, client.ErrUnavailable) {
		return err
	}
	return nil // the command itself is done; updates come when the mailbox can be asked again
}
