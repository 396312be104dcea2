// Package mail makes realistic mail out of a seed: the same seed gives the same messages, byte for byte.
//
// Tests and the bench suite use it where mail of real people cannot be used. What matters for a store is kept: sizes, how
// well the bytes compress, what repeats inside one message, between messages of one sender, and between all of them.
// Words are invented, except for some hundred of the commonest and for the phrases that software and polite people use.
//
// The mix, by number of messages; the mean is about 35 kB:
//
//	30 %  notifications    of 40 services: the same template with other values, text and HTML, 3 to 10 kB
//	22 %  newsletters      of 60 brands: a page of HTML in quoted-printable that repeats from issue to issue, 15 to 80 kB
//	20 %  replies          with quotes of up to six earlier ones, text and HTML, some with the company's logo inside
//	10 %  lists            plain text to a mailing list with its header lines
//	10 %  attachments      a short text and one to three files in base64, log-normal around 60 kB: 35 % PDF, 25 % pictures,
//	                       20 % zipped office files, 12 % older office files and tables, 8 % text; every sixth file was sent before
//	 4 %  invitations      text/calendar
//	 4 %  reports          bounces with the header of what bounced
//
// A quarter of the people, and of the brands and services, write Chinese: UTF-8 or GBK, in base64, quoted-printable or 8bit. A third of
// all mail has the long trace and anti-spam lines of a large provider, half has DKIM signatures.
package mail
