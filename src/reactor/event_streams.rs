//! Streams of server-sent events: from the request that asks for one to the end of its connection.

use super::connection::{Closing, Connection, Session};
use super::delivery::Delivery;
use super::event_loop::Core;
use super::system::System;
use crate::api::metrics::CloseCause;
use crate::front::http::{self, Client, RequestMeta, StreamRequest};
use crate::front::sse::{Coding, EventStream, News, StreamCall};
use crate::log::Log;
use crate::service::Context;
use crate::service::subscribe::Subscriber;
use crate::wire::http1::RequestReader;

/// A connection that is sent a stream.
#[derive(Debug)]
pub(crate) struct Streaming {
    /// It.
    pub(crate) stream: EventStream,
    /// The request that asked for it.
    meta: RequestMeta,
    /// It has begun, and counts as a connection of its kind.
    pub(super) is_counted: bool,
    /// What has arrived behind that. It is read only if the stream is refused.
    pub(crate) reader: RequestReader,
}

impl Streaming {
    /// Takes what the stream has waited for.
    pub(super) fn take<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        (serial, delivery): (u32, Delivery),
    ) {
        let stream = &mut self.stream;
        match delivery {
            Delivery::Reply(from, reply) => {
                stream.on_reply(context, subscriber, (serial, from, reply));
            }
            Delivery::History(result) => stream.on_history(context, subscriber, (serial, result)),
            // It decodes nothing.
            Delivery::Decoded(_) => {}
        }
    }
}

impl<S: System> Core<S> {
    /// Begins the stream that a request asks for.
    pub(super) fn begin_stream(
        &mut self,
        index: u32,
        connection: &mut Connection<S::Socket>,
        request: StreamRequest,
    ) {
        let Session::Http(reader) = &mut connection.session else {
            return;
        };
        let reader = std::mem::take(reader);
        let StreamRequest { query, token, meta } = request;
        let call = StreamCall {
            query,
            token,
            coding: if meta.takes_chunks() {
                Coding::Chunked
            } else {
                Coding::Plain
            },
        };
        let subscriber = Subscriber {
            index,
            generation: connection.generation,
        };
        let client = (connection.address, connection.holders);
        let by = (subscriber, client);
        let stream = EventStream::begin(&mut self.context, by, call, self.now_ms);
        connection.session = Session::Stream(Box::new(Streaming {
            stream,
            meta,
            is_counted: false,
            reader,
        }));
        self.take_stream_news(index, connection);
    }

    /// Does what a stream has to have done for it.
    pub(super) fn take_stream_news(&mut self, index: u32, connection: &mut Connection<S::Socket>) {
        let Session::Stream(streaming) = &mut connection.session else {
            return;
        };
        let Some(news) = streaming.stream.take_news() else {
            return;
        };
        let meta = streaming.meta;
        let mut client = Client {
            answers: &mut connection.answers,
            index,
            generation: connection.generation,
            address: connection.address,
            holders: connection.holders,
        };
        match news {
            News::Opens(beginning) => {
                streaming.is_counted = true;
                self.context.tally().note_stream_begins();
                http::open_stream(&self.writer, &mut client, (meta, &beginning));
                connection.sent_ms = self.now_ms;
            }
            News::Ends => {
                let cause = if streaming.stream.feed.outbox.overflowed() {
                    CloseCause::SlowReader
                } else {
                    CloseCause::Server
                };
                connection.close_for(cause, self.now_ms);
            }
            News::Refused(error) => {
                let request = (meta, &error);
                http::reject(&self.context, &self.writer, &mut client, request);
                let subscriber = Subscriber {
                    index,
                    generation: connection.generation,
                };
                streaming.stream.leave(&mut self.context, subscriber);
                let reader = std::mem::take(&mut streaming.reader);
                connection.session = Session::Http(reader);
                connection.began_ms = self.now_ms;
                if meta.keeps_alive() {
                    // What has arrived behind the request is worked on now.
                    connection.unworked = true;
                    connection.queue_read(index, &mut self.to_read);
                } else {
                    connection.close_after_sending(self.now_ms);
                }
                self.note_late(index, connection);
            }
        }
    }

    /// The server stops: does what a stream that ends for it has to have done.
    pub(super) fn end_stream(&mut self, index: u32) {
        let Some(mut connection) = self.connections.take(index) else {
            return;
        };
        if let Session::Stream(_) = connection.session {
            self.take_stream_news(index, &mut connection);
            connection.close_after_sending(self.now_ms);
        }
        self.connections.put_back(index, connection);
    }

    /// Looks at the stream of a connection by the clock.
    pub(super) fn tick_stream(&mut self, index: u32) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let has_hung_up = connection.hung_up || connection.ended;
        if let Session::Stream(streaming) = &mut connection.session
            && connection.closing == Closing::Open
        {
            streaming.stream.tick(self.now_ms, has_hung_up);
        }
    }
}
