"""Python's mail libraries against a server: python_test.go reads what is written here, asserts say the rest."""
import imaplib
import poplib
import smtplib
import ssl
import sys

ca, user, password, imaps, pop3, pop3s, smtp = sys.argv[1:]
tls = ssl.create_default_context(cafile=ca)

# poplib takes lines of 2,048 bytes at most, mail has longer ones.
poplib._MAXLINE = 1 << 20


def keep(folder, number, data):
    with open(f"{folder}/{number}", "wb") as f:
        f.write(data)


def ok(answer):
    status, data = answer
    assert status == "OK", answer
    return data


def by_imap():
    c = imaplib.IMAP4_SSL("localhost", int(imaps), ssl_context=tls)
    ok(c.login(user, password))
    count = int(ok(c.select("INBOX"))[0])
    for item in ok(c.fetch("1:*", "(UID BODY.PEEK[])")):
        if isinstance(item, tuple):
            keep("imap", int(item[0].split()[0]), item[1])
    ok(c.create("Python"))
    for number in range(1, count + 1):
        with open(f"imap/{number}", "rb") as f:
            raw = f.read()
        # What imaplib.append does without its change of line ends, which would make bare CRs CRLF.
        c.literal = raw
        ok(c._simple_command("APPEND", "Python", r"(\Seen)", '"17-Jul-1996 02:44:25 -0700"'))
    ok(c.select("Python"))
    for item in ok(c.uid("FETCH", "1:*", "(FLAGS INTERNALDATE RFC822)")):
        if isinstance(item, tuple):
            assert rb"\Seen" in item[0], item[0]
            assert b'"17-Jul-1996 02:44:25 -0700"' in item[0], item[0]
            keep("again", int(item[0].split()[0]), item[1])
    ok(c.store("1:2", "+FLAGS", r"(\Deleted)"))
    assert len(ok(c.search(None, "DELETED"))[0].split()) == 2
    assert len(ok(c.search("UTF-8", "UNDELETED"))[0].split()) == count - 2
    assert ok(c.expunge()) in ([b"1", b"1"], [b"2", b"1"])
    ok(c.uid("COPY", "3:4", "Trash"))
    assert ok(c.select("Trash")) == [b"2"]
    assert b"MESSAGES 2" in ok(c.status("Trash", "(MESSAGES UNSEEN)"))[0]
    assert any(b'"/"' in line for line in ok(c.list()))
    ok(c.close())
    ok(c.delete("Python"))
    assert c.logout()[0] == "BYE"


def by_pop3(c):
    c.user(user)
    c.pass_(password)
    count, size = c.stat()
    listed = [line.split() for line in c.list()[1]]
    assert len(listed) == count and sum(int(s) for _, s in listed) == size
    names = {line.split()[1] for line in c.uidl()[1]}
    assert len(names) == count
    for number in range(1, count + 1):
        response, lines, _ = c.retr(number)
        assert int(response.split()[1]) == int(listed[number - 1][1]), response
        keep("pop3", number, b"".join(line + b"\r\n" for line in lines))
        top = c.top(number, 0)[1]
        assert top == lines[: len(top)]
    assert "PIPELINING" in c.capa()
    c.quit()


def by_smtp():
    c = smtplib.SMTP("localhost", int(smtp), "client.test")
    c.starttls(context=tls)
    assert c.sendmail("a@example.net", [user], "Subject: by Python\r\n\r\n.\r\nend\r\n") == {}
    c.quit()


by_imap()
by_pop3(poplib.POP3_SSL("localhost", int(pop3s), context=tls))
clear = poplib.POP3("localhost", int(pop3))
clear.stls(context=tls)
by_pop3(clear)
by_smtp()
c = imaplib.IMAP4_SSL("localhost", int(imaps), ssl_context=tls)
ok(c.login(user, password))
ok(c.select("INBOX", readonly=True))
found = ok(c.search(None, "SUBJECT", '"by Python"'))[0].split()
assert len(found) == 1, found
assert ok(c.fetch(found[0], "(RFC822)"))[0][1].endswith(b"\r\n.\r\nend\r\n")
c.logout()
