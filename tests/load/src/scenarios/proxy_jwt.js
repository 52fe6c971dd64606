// The token check of nginx with njs. Evaluated as a variable, once for each request: it costs no
// more than `auth_request`, which needs a subrequest. njs starts every request afresh, so that
// nothing can be remembered from one to the next.

import crypto from 'crypto';

const secret = process.env.EDGEWAY_JWT_SECRET;

// The user's name, or nothing when the request must be refused.
function user(r) {
    const header = r.headersIn.Authorization;
    if (!header || !header.startsWith('Bearer ')) {
        return '';
    }
    const parts = header.slice(7).split('.');
    if (parts.length !== 3) {
        return '';
    }
    const signed = parts[0] + '.' + parts[1];
    if (crypto.createHmac('sha256', secret).update(signed).digest('base64url') !== parts[2]) {
        return '';
    }
    try {
        const head = JSON.parse(Buffer.from(parts[0], 'base64url'));
        const claims = JSON.parse(Buffer.from(parts[1], 'base64url'));
        if (head.alg !== 'HS256' || !(claims.exp > Date.now() / 1000)) {
            return '';
        }
        r.variables.jwt_role = claims.role;
        return claims.username;
    } catch (e) {
        return '';
    }
}

function version() {
    return njs.version;
}

export default { user, version };
