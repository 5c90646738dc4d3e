// The room protocol as the tutorial's servers speak it, by Node's socket.io: what `scripts/bench signaling` compares with.
// node server.js PORT CERTIFICATE KEY
'use strict';

const fs = require('fs');
const https = require('https');
const { Server } = require('socket.io');

const [port, cert, key] = process.argv.slice(2);
const server = https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) });
const io = new Server(server);

io.on('connection', (socket) => {
    socket.on('join', (room) => {
        const size = io.sockets.adapter.rooms.get(room)?.size ?? 0;
        if (size >= 2) {
            socket.emit('full', room, socket.id);
            return;
        }
        socket.join(room);
        socket.emit('joined', room, socket.id);
        if (size > 0) socket.to(room).emit('otherjoin', room, socket.id);
    });
    socket.on('message', (room, data) => {
        if (socket.rooms.has(room)) socket.to(room).emit('message', room, data);
    });
    socket.on('leave', (room) => {
        socket.to(room).emit('bye', room, socket.id);
        socket.leave(room);
        socket.emit('leaved', room, socket.id);
    });
});

server.listen(Number(port), '127.0.0.1');
