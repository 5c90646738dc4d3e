// Does nothing. That it can be installed at all shows that the browser trusts the certificate; see phone-trust.js.
